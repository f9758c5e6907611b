"""The batched program of a stack of pT trainings: one epoch of K runs, in as many kernels as one run takes."""

# K runs, N events, F features, U updates of an epoch, B batch, R rows (B, then those of the probe), L hidden layers,
# W width, G angles of the grid, P points of the boundary table, T terms of the loss, D draws of 64 bits

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.base.stacked_updates import StackedUpdates
from trainables.pt.loss import BOUNDARY_PT_GEV, GRID_ANGLES, TINY_GEV, boundary_deviation
from trainables.pt.model import LEVELS, LOWEST, kept_levels
from trainables.pt.stacked_network import StackedNetwork

if TYPE_CHECKING:
    from trainables.pt.train import PtTraining

PENALTIES = ("monotonic", "boundary")
LOSS, MAIN, MONOTONIC, BOUNDARY, NORM = range(5)  # rows of the log


class StackProgram:
    """What K runs compute in an update: buffers that keep their place, and the kernels between them.

    ``_draw`` fills buffers with what differs from update to update, from each run's own generators. ``_update`` works
    on buffers alone, with hyperparameters as numbers on the device, and asks the device for nothing (except where that
    is the CPU): it could be recorded once and replayed.

    Parameters
    ----------
    like : PtTraining
        One of the runs, for sizes and for the events, which all share.
    members : int
        K.
    """

    def __init__(self, like: PtTraining, members: int) -> None:
        self._train_NF, self._truth_N = like.train_NF, like.truth_N
        self._members, self._batch, self._batches = members, like.batches.batch_size, like.batches.batches
        self._standardised, network = like.network.standardised, like.network
        self._probe_RF: Tensor | None = getattr(like, "probe_KP2", None)
        self._updates = StackedUpdates(like.updates, members)
        self._networks: dict[int, StackedNetwork] = {}
        self._probed = self._dropped = False
        device, dtype, features = like.device, network.head.weight.dtype, like.train_NF.shape[1]

        def zeros(*shape: int, of: torch.dtype = dtype) -> Tensor:
            return torch.zeros(shape, dtype=of, device=device)

        self._index_KB, self._nothing_B = (
            zeros(members, self._batch, of=torch.int64),
            zeros(self._batch, of=torch.int64),
        )
        self._mean_K1F, self._scale_K1F = zeros(members, 1, features), zeros(members, 1, features) + 1
        self._peak_K1, self._window_K1, self._zero = zeros(members, 1), zeros(members, 1), zeros()
        self._one = self._zero + 1
        self._penalty_2K1, self._log_row_TK = zeros(2, members, 1), zeros(5, members)
        self._slope_P = -2 / (torch.tensor(BOUNDARY_PT_GEV, dtype=dtype, device=device) * len(BOUNDARY_PT_GEV))
        # dropout: bytes are below ``kept``, or not; as float32 whatever the network is
        shape = len(network.hidden), self._batch, network.head.in_features
        self._draw_KD = zeros(members, (prod(shape) + 7) // 8, of=torch.int64)
        self._byte_KLBW = self._draw_KD.view(torch.uint8)[:, : prod(shape)].view(members, *shape)
        self._kept_K111 = zeros(members, 1, 1, 1, of=torch.uint8)
        self._share_K111 = zeros(members, 1, 1, 1, of=torch.float32)
        self._factor_KLBW = zeros(members, *shape, of=torch.float32)

    def fits(self, members: Sequence[PtTraining | None]) -> bool:
        """Decide whether the program is one of this many runs on these events."""
        used = {id(one.train_NF) for one in members if one is not None}
        return len(members) == self._members and used == {id(self._train_NF)}

    def train_epoch(self, members: Sequence[PtTraining | None]) -> None:
        """Make the updates of one epoch of these runs, from where they are, and copy everything back to them."""
        with torch.no_grad():
            self._load(members)
            log_UTK = self._log_row_TK.new_zeros((self._batches, *self._log_row_TK.shape))
            for update in range(self._batches):
                self._draw(members)
                self._updates.prepare(update)
                self._update()
                log_UTK[update].copy_(self._log_row_TK)
            of_updates = [None if one is None else one.updates for one in members]
            self._updates.save(of_updates, log_UTK[:, LOSS], log_UTK[:, NORM])
        sum_TK = log_UTK.sum(0)
        for place, one in enumerate(members):
            if one is not None:
                for row, name in zip((MONOTONIC, BOUNDARY), PENALTIES, strict=True):
                    if one.penalty_weights().get(name):
                        one.history.add_sums(self._batches, **{f"loss_{name}": sum_TK[row, place]})
                one.history.add_sums(self._batches, loss=sum_TK[LOSS, place], loss_main=sum_TK[MAIN, place])

    def _load(self, members: Sequence[PtTraining | None]) -> None:
        """Take over the runs: networks, moments, hyperparameters, and what they will draw from."""
        self._updates.load([None if one is None else one.updates for one in members], self._batches)
        self._draw_KD.zero_()
        self._generators: list[tuple[Tensor, torch.Generator]] = []
        peaks, windows = [0.0] * self._members, [0.0] * self._members
        penalty_2K = [[0.0] * self._members for _ in PENALTIES]
        kept, shares = [LEVELS - 1] * self._members, [1.0] * self._members
        for place, one in enumerate(members):
            if one is None:
                continue
            one.batches.start_epoch()
            peaks[place], windows[place] = one.config.peak_weight, one.config.peak_window
            for row, name in enumerate(PENALTIES):
                penalty_2K[row][place] = one.penalty_weights().get(name, 0.0)
            levels = kept_levels(one.network.dropout)
            if levels < LEVELS:
                kept[place], shares[place] = levels, LEVELS / levels
                self._generators.append((self._draw_KD[place], one.noise))
            if self._standardised:
                self._mean_K1F[place, 0].copy_(one.network.mean)
                self._scale_K1F[place, 0].copy_(one.network.scale)
        # alone it is a number of float32, whatever the network is
        self._peak_K1.copy_(torch.tensor(peaks, dtype=torch.float32).unsqueeze(1))
        self._window_K1.copy_(torch.tensor(windows, dtype=torch.float64).unsqueeze(1))
        self._penalty_2K1.copy_(torch.tensor(penalty_2K, dtype=torch.float64).unsqueeze(2))
        self._kept_K111.copy_(torch.tensor(kept).view(-1, 1, 1, 1))
        self._share_K111.copy_(torch.tensor(shares).view(-1, 1, 1, 1))
        self._dropped, self._probed = bool(self._generators), any(map(any, penalty_2K))
        self._network = self._network_of_rows()

    def _network_of_rows(self) -> StackedNetwork:
        """Return the network for batch, or for batch and probe."""
        probe_RF = self._train_NF[:0] if self._probe_RF is None or not self._probed else self._probe_RF
        rows = self._batch + len(probe_RF)
        if rows not in self._networks:
            self._networks[rows] = StackedNetwork(self._updates.parameters, rows, self._batch)
            self._networks[rows].input_KRF[:, self._batch :].copy_(probe_RF)
        return self._networks[rows]

    def _draw(self, members: Sequence[PtTraining | None]) -> None:
        """Draw the next batch, and the neurons that are left out, from the generators of each run."""
        batches = [self._nothing_B if one is None else one.batches.draw() for one in members]
        torch.stack(batches, out=self._index_KB)
        for draw_D, random in self._generators:
            draw_D.random_(LOWEST, None, generator=random)

    def _update(self) -> None:
        network, batch, row_TK = self._network, self._batch, self._log_row_TK
        index_KB = self._index_KB.view(-1)
        feature_KBF = self._train_NF.index_select(0, index_KB).view(self._members, batch, -1)
        if self._standardised:
            feature_KBF = feature_KBF.sub_(self._mean_K1F).div_(self._scale_K1F)
        network.input_KRF[:, :batch].copy_(feature_KBF)
        if self._dropped:
            torch.lt(self._byte_KLBW, self._kept_K111, out=self._factor_KLBW).mul_(self._share_K111)
        pt_KR = network.forward(self._factor_KLBW if self._dropped else None)
        truth_KB = self._truth_N.index_select(0, index_KB).view(self._members, batch)
        self._relative_loss(pt_KR[:, :batch], truth_KB)
        torch.add(row_TK[MAIN], 0, out=row_TK[LOSS])
        if self._probed:
            self._penalties(pt_KR[:, batch:])
        network.backward(self._updates.gradient_KP)
        row_TK[NORM].copy_(self._updates.make(row_TK[LOSS]))

    def _relative_loss(self, pt_KB: Tensor, truth_KB: Tensor) -> None:
        """Write ``relative_loss`` of each run and its gradient by the predictions."""
        scale_KB = truth_KB + TINY_GEV
        r_KB = (truth_KB - pt_KB).div_(scale_KB)
        weighted_KB = torch.where(r_KB.abs() < self._window_K1, self._peak_K1, self._one).mul_(r_KB)
        torch.mean(r_KB.mul_(weighted_KB), dim=1, out=self._log_row_TK[MAIN])
        torch.mul(weighted_KB.div_(scale_KB), -2 / self._batch, out=self._network.change_KR[:, : self._batch])

    def _penalties(self, pt_KR: Tensor) -> None:
        """Write both penalties of each run, add them to its loss, and write their gradients; none where it is off."""
        monotonic_K1, boundary_K1 = self._penalty_2K1.unbind()
        change_KG, change_KP = self._network.change_KR[:, self._batch :].tensor_split([GRID_ANGLES], dim=1)
        pt_KG, pt_KP = pt_KR.tensor_split([GRID_ANGLES], dim=1)
        rise_KG = pt_KG[:, :-1] - pt_KG[:, 1:]  # the grid falls in the angle
        slope_KG = torch.where(rise_KG > 0, monotonic_K1, 0.0)
        change_KG.zero_()
        change_KG[:, :-1].add_(slope_KG)
        change_KG[:, 1:].sub_(slope_KG)
        torch.sum(rise_KG.relu_(), dim=1, out=self._log_row_TK[MONOTONIC])
        deviation_KP = boundary_deviation(pt_KP)
        torch.where(boundary_K1 > 0, deviation_KP * self._slope_P * boundary_K1, self._zero, out=change_KP)
        torch.mean(deviation_KP.square_(), dim=1, out=self._log_row_TK[BOUNDARY])
        terms_2K = self._log_row_TK[MONOTONIC : BOUNDARY + 1] * self._penalty_2K1.squeeze(2)
        self._log_row_TK[LOSS].add_(torch.where(self._penalty_2K1.squeeze(2) > 0, terms_2K, 0.0).sum(0))
