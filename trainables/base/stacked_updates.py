"""Updates of several networks of one architecture at once: Adam at rates of their own, and each one's own guard."""

# K networks, P numbers of all parameters of one network, U updates of an epoch, C coefficients of an update

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.base.updates import Updates

KEPT, SQUARED, STEP, DECAY = range(4)  # coefficients that are 0 where an update is refused


class StackedUpdates:
    """What ``Updates`` does for one network, for K of them in as many kernels as for one.

    Rates, betas, weight decay and clipping of each are numbers on the device, so that one recorded program serves all
    epochs. From its first loss or gradient that is not finite on, every update of a network is refused; the others go
    on. A place without network (None in ``load``) is refused all updates.

    Parameters
    ----------
    like : Updates
        Of one such network, for shapes, number type and device.
    members : int
        K.
    """

    def __init__(self, like: Updates, members: int) -> None:
        parameter_P = like.parameters
        shapes = [tuple(parameter.shape) for parameter in parameter_P]
        sizes = [prod(shape) for shape in shapes]
        first, total = parameter_P[0], sum(sizes)
        self._members, self._dtype, self._device = members, first.dtype, first.device
        self._on_cpu = first.device.type == "cpu"
        self._weight_KP, self._average_KP, self._square_KP, self.gradient_KP, self._scratch_KP = (
            first.new_zeros((members, total)) for _ in range(5)
        )
        self.parameters = _views(self._weight_KP, shapes, sizes)
        self._averages, self._squares = (_views(one, shapes, sizes) for one in (self._average_KP, self._square_KP))
        self._coefficient_CK1, self._epsilon_K1 = self._zeros(4, members, 1), self._zeros(members, 1)
        self._clip_K, self._bad_K = self._zeros(members), self._zeros(members)
        self._clips = self._decays = False
        self._table_UCK1 = self._zeros(0, 5, members, 1)

    def load(self, members: Sequence[Updates | None], updates: int) -> None:
        """Copy the networks and their moments, before an epoch of this many updates."""
        table_UCK = np.zeros((updates, 5, self._members))
        table_UCK[:, 4] = 1.0  # where there is no network, nothing is divided by zero
        clips = np.full(self._members, np.inf)
        bad = np.ones(self._members)
        for place, one in enumerate(members):
            if one is not None:
                self._copy(one, place, back=False)
                table_UCK[:, :, place] = _coefficients(one, updates)
                clips[place] = np.inf if one.clip_norm is None else one.clip_norm
                bad[place] = one.refused
        self._clips, self._decays = bool(np.isfinite(clips).any()), bool(table_UCK[:, DECAY].any())
        self._clip_K.copy_(torch.from_numpy(clips))
        self._bad_K.copy_(torch.from_numpy(bad))
        self._table_UCK1 = torch.from_numpy(table_UCK).to(self._device, self._dtype).unsqueeze(-1)

    def prepare(self, number: int) -> None:
        """Set the coefficients of update 0, 1, ... of the epoch."""
        row_CK1 = self._table_UCK1[number]
        self._coefficient_CK1.copy_(row_CK1[:4])
        self._epsilon_K1.copy_(row_CK1[4])

    def make(self, loss_K: Tensor) -> Tensor:
        """Make one update from ``gradient_KP``, which it overwrites; return the norms (K,) of the gradients.

        It neither waits for the device nor takes a number of the host, except on the CPU, where both are free.
        """
        gradient_KP, scratch_KP = self.gradient_KP, self._scratch_KP
        norm_K: Tensor = torch.linalg.vector_norm(gradient_KP, dim=1)
        if self._clips:
            gradient_KP.mul_((self._clip_K / (norm_K + 1e-6)).clamp(max=1).unsqueeze(1))
        self._bad_K.logical_or_((loss_K + norm_K).mul_(0))  # 0 unless one is not finite: then NaN, which counts as true
        if not self._on_cpu or self._bad_K.any():
            gradient_KP.masked_fill_((self._bad_K != 0).unsqueeze(1), 0)
            self._coefficient_CK1.mul_((1 - self._bad_K).unsqueeze(1))
        kept_K1, squared_K1, step_K1, decay_K1 = self._coefficient_CK1.unbind()
        self._average_KP.lerp_(gradient_KP, kept_K1)
        self._square_KP.lerp_(gradient_KP.square_(), squared_K1)
        torch.sqrt(self._square_KP, out=scratch_KP)
        torch.div(self._average_KP, scratch_KP.add_(self._epsilon_K1), out=scratch_KP)
        if self._decays:
            self._weight_KP.addcmul_(self._weight_KP, decay_K1, value=-1)
        self._weight_KP.addcmul_(scratch_KP, step_K1, value=-1)
        return norm_K

    def save(self, members: Sequence[Updates | None], loss_UK: Tensor, norm_UK: Tensor) -> None:
        """Copy networks and moments back, and tell each one's ``Updates`` what was made and what refused.

        Parameters
        ----------
        loss_UK, norm_UK : Tensor
            Losses and norms of the gradients in each update of the epoch.
        """
        loss_UK, norm_UK = loss_UK.cpu(), norm_UK.cpu()
        bad_UK = ~torch.isfinite(loss_UK + norm_UK)
        updates = len(bad_UK)
        for place, one in enumerate(members):
            if one is None:
                continue
            self._copy(one, place, back=True)
            found = bad_UK[:, place].nonzero()
            first = int(found[0]) if len(found) else updates
            bad = (loss_UK[first, place].item(), norm_UK[first, place].item()) if first < updates else None
            one.count(updates, first, bad)

    def _copy(self, one: Updates, place: int, *, back: bool) -> None:
        averages, squares = one.moments()
        theirs: tuple[Sequence[Tensor], ...] = one.parameters, averages, squares
        for mine, of_one in zip((self.parameters, self._averages, self._squares), theirs, strict=True):
            here, there = [part[place] for part in mine], [part.detach() for part in of_one]
            torch._foreach_copy_(there, here) if back else torch._foreach_copy_(here, there)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._dtype, device=self._device)


def _views(flat_KP: Tensor, shapes: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> list[Tensor]:
    """Split (K, P) into parameters (K, ...)."""
    parts = torch.split(flat_KP, list(sizes), dim=1)
    return [part.view(len(flat_KP), *shape) for part, shape in zip(parts, shapes, strict=True)]


def _coefficients(one: Updates, updates: int) -> NDArray[np.float64]:
    """Make (U, C + 1) for the next updates: shares of the new gradient and square, step, decay; then epsilon.

    ``weight -= rate / c1 * average / (sqrt(square) / sqrt(c2) + eps)`` with ``c = 1 - beta^number`` (arXiv:1412.6980)
    is multiplied out: ``weight -= step * average / (sqrt(square) + epsilon)``.
    """
    rate_U = np.array(one.rates(updates))
    number_U = one.steps + 1 + np.arange(updates)
    beta1, beta2 = one.options["betas"]
    root_U = np.sqrt(1 - beta2**number_U)
    step_U = rate_U / (1 - beta1**number_U) * root_U
    same_U = np.ones(updates)
    columns = ((1 - beta1) * same_U, (1 - beta2) * same_U, step_U, rate_U * one.options["weight_decay"])
    return np.stack((*columns, one.options["eps"] * root_U), axis=1)
