"""Updates of any optimizer that refuse a loss or gradient that is not finite, and the evidence of the first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class NotFiniteError(Exception):
    """An update was refused; it carries the numbers that show why."""

    def __init__(self, evidence: dict[str, float]) -> None:
        super().__init__(str(evidence))
        self.evidence = evidence


class Guard:
    """Steps of optimizers. From the first bad update on, every one is refused: the weights stay as they were before it.

    Fused optimizers on a GPU take a switch on the device, as from ``torch.amp.GradScaler``, and ``check`` tells later.
    For others each update waits for the device to say whether its numbers are finite.
    """

    def __init__(self, device: torch.device) -> None:
        self.made = 0
        self._found_inf = torch.zeros((), device=device)
        self._first_bad_3 = torch.zeros(3, device=device)

    def update(self, loss: Tensor, optimizers: Sequence[Optimizer], clip_norm: float | None) -> None:
        """Make one update of the parameters of these optimizers.

        Raises
        ------
        NotFiniteError
            The loss or the norm of its gradients is not finite, and that is already known.
        """
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = {id(one): one for each in optimizers for group in each.param_groups for one in group["params"]}
        norm = _gradient_norm(list(parameters.values()), clip_norm).detach().float()
        self.made += 1
        switched = all(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in optimizers)
        later = switched and loss.device.type == "cuda"
        if later or not math.isfinite((loss.detach() + norm.to(loss.device)).item()):
            self._note(loss.detach().float(), norm)
        if not later:
            self.check()
        for optimizer in optimizers:
            if switched:
                optimizer.grad_scale, optimizer.found_inf = None, self._found_inf  # type: ignore[attr-defined]
            optimizer.step()

    def check(self) -> None:
        """Wait for the device, and raise ``NotFiniteError`` if an update was refused."""
        if self._found_inf.item():
            names = ("update", "loss", "gradient_norm")
            raise NotFiniteError(dict(zip(names, self._first_bad_3.tolist(), strict=True)))

    def _note(self, loss: Tensor, norm: Tensor) -> None:
        norm = norm.to(loss.device)
        bad = ~torch.isfinite(loss + norm)
        evidence_3 = torch.stack((torch.full_like(loss, self.made), loss, norm))
        self._first_bad_3 = torch.where(bad & (self._found_inf == 0), evidence_3, self._first_bad_3)
        self._found_inf = torch.maximum(self._found_inf, bad.float())


def _gradient_norm(parameters: list[Tensor], clip_norm: float | None) -> Tensor:
    """Return the norm of all gradients, which are clipped to ``clip_norm`` where it is given."""
    total_norm = getattr(nn.utils, "get_total_norm", None)  # of torch 2.6
    if clip_norm is not None or total_norm is None:
        return nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
    norm: Tensor = total_norm([one.grad for one in parameters if one.grad is not None])
    return norm
