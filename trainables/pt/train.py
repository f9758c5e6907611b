"""Train each of the three pT models: epochs, scores, state, and the stop at a loss that is not finite."""

# N events, F features, B batch, K angles of the grid, P points of the boundary table

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.base.batches import BatchStream, on_device
from trainables.base.checkpoint import FIGURE_DATA
from trainables.base.errors import TrainingDiverged
from trainables.base.history import LossHistory
from trainables.base.training import Training
from trainables.base.updates import Updates
from trainables.pt.combined import CORRECTED_NUMBERS, combined_inputs
from trainables.pt.config import PtCombinedConfig, PtConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.correction import PEAK, PostCorrection, fit_correction
from trainables.pt.features import feature_set, features
from trainables.pt.loss import (
    boundary_deviation,
    boundary_inverse_dphi,
    boundary_penalty,
    grid_inverse_dphi,
    monotonic_penalty,
    relative_loss,
    rises,
)
from trainables.pt.metrics import Scores, check_binning, score
from trainables.pt.model import PtNetwork, build_network, in_chunks, load_network
from trainables.pt.stack import PtStack

if TYPE_CHECKING:
    from trainables.pt.combined import CombinedData
    from trainables.pt.data import PtData


class PtTraining(Training):
    """The training of all three models. An epoch is one pass over the training events in fresh order and whole batches.

    Features are computed once and stay on the device. The global random state is not used.

    Raises
    ------
    DataError
        Too few pT bins have enough validation events.
    """

    stack_type = PtStack

    config: PtConfig

    def __init__(self, config: PtConfig, data: PtData, device: torch.device) -> None:
        check_binning(data.binning, data.validation.truth_N3[:, 0])
        self.config, self.data, self.device, self.epoch = config, data, device, 0
        weight_seed, order_seed, noise_seed = np.random.SeedSequence(config.seed).generate_state(3).tolist()
        train_NF, validation_NF = self._features()
        network = build_network(config, train_NF.shape[1], weight_seed)
        network.start_at(data.train.truth_N3[:, 0])
        if network.standardised:
            network.fit_scaler(train_NF)
        self.network = network.to(device)
        self.train_NF, self.validation_NF = on_device(train_NF, device), on_device(validation_NF, device)
        self.truth_N = on_device(data.train.truth_N3[:, 0], device)
        self.batches = BatchStream(len(data.train), config.batch_size, order_seed, device)
        self.noise = torch.Generator(device).manual_seed(noise_seed)
        total = config.epochs * self.batches.batches
        self.updates = Updates(
            self.network, lambda update: config.rate_of(update, total), weight_decay=config.weight_decay
        )
        self.history = LossHistory(points_per_epoch=1)

    def _features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the network's inputs (N, F) of training and of validation events."""
        name = feature_set(self.config)
        return features(name, self.data.train), features(name, self.data.validation)

    def train_epoch(self) -> dict[str, float]:
        c = self.config
        self.batches.start_epoch()
        for _ in range(self.batches.batches):
            index_B = self.batches.draw()
            pred_B = self.network.estimate(self.train_NF.index_select(0, index_B), self.noise)
            loss = main = relative_loss(pred_B, self.truth_N.index_select(0, index_B), c.peak_weight, c.peak_window)
            for name, (weight, penalty) in self._penalties().items():
                loss = loss + weight * penalty
                self.history.add(**{f"loss_{name}": penalty})
            self.updates.make(loss)
            self.history.add(loss=loss, loss_main=main)
        return self.end_epoch()

    def end_epoch(self) -> dict[str, float]:
        """Count the epoch, whose updates are made, and return its numbers.

        Raises
        ------
        TrainingDiverged
            An update was refused.
        """
        epoch = self.epoch + 1
        self.history.close_point(epoch=float(epoch), step=float(self.updates.made), lr=self.updates.lr)
        if evidence := self.updates.first_bad():
            raise TrainingDiverged("not_finite", epoch, evidence)
        self.epoch = epoch
        return self.history.epoch_means(epoch) | {"lr": self.updates.lr, "updates": float(self.updates.made)}

    def penalty_weights(self) -> dict[str, float]:
        """Return the weights of penalties in the present epoch, by name; 0: left out."""
        return {}

    def _penalties(self) -> dict[str, tuple[float, Tensor]]:
        """Return weight and value of each term that is added to the main loss, by name."""
        return {}

    def validate(self) -> dict[str, float]:
        return self._scores().numbers()

    def _scores(self) -> Scores:
        """Score the model in the form that is used."""
        return self._scores_of(in_chunks(self.network, self.validation_NF))

    def _scores_of(self, pred_N: Tensor) -> Scores:
        return score(pred_N.cpu().numpy(), self.data.validation.truth_N3[:, 0], self.data.binning)

    def state(self) -> dict[str, Any]:
        parts = {"epoch": self.epoch, "updates": self.updates.state(), "history": self.history.points}
        parts["random"] = [random.get_state() for random in (self.batches.random, self.noise)]
        return copy.deepcopy(parts)

    def load_state(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # the optimizer would otherwise work in the caller's tensors
        self.epoch = state["epoch"]
        self.updates.load_state(state["updates"])
        for random, saved in zip((self.batches.random, self.noise), state["random"], strict=True):
            random.set_state(saved.cpu())
        self.history.points = state["history"]

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    @classmethod
    def from_weights(cls, config: PtConfig, weights: dict[str, Tensor], device: torch.device) -> PtNetwork:
        """Make the network of a run's ``weights()``: features (N, F) of its feature set to pT (N,) in GeV."""
        return load_network(config, weights).to(device)

    def write_report(self, folder: Path) -> None:
        self.write_tables(folder)
        self.draw_report(folder)
        (folder / FIGURE_DATA).unlink()

    def write_tables(self, folder: Path) -> None:
        from trainables.pt.report import write_tables  # drawing is not needed for training

        write_tables(folder, self.data, self._scores(), self.history.points, **self._for_report())

    @staticmethod
    def draw_report(folder: Path) -> None:
        from trainables.pt.report import draw_report

        draw_report(folder)

    def _for_report(self) -> dict[str, Any]:
        """Return what only this model's report shows, as arguments of ``write_tables``."""
        return {}


class PtEnergyTraining(PtTraining):
    """Model 1: pT from positions in silicon and calorimeter and the cluster's energy; inputs are standardised."""

    config: PtEnergyConfig


class PtDphiTraining(PtTraining):
    """Model 2: pT from 1/dphi, not standardised, with a monotonic and a boundary penalty.

    Both penalties come from one more pass without dropout over a fixed grid of angles and the boundary table.
    """

    config: PtDphiConfig

    def __init__(self, config: PtDphiConfig, data: PtData, device: torch.device) -> None:
        super().__init__(config, data, device)
        self._inverse_K = grid_inverse_dphi(device)
        inverse_KP = torch.cat((self._inverse_K, boundary_inverse_dphi(device)))
        self.probe_KP2 = torch.stack((inverse_KP, torch.zeros_like(inverse_KP)), dim=1)

    def penalty_weights(self) -> dict[str, float]:
        monotonic = self.config.lambda_mono if self.config.monotonic else 0.0
        return {"monotonic": monotonic, "boundary": self.config.lambda_boundary(self.epoch + 1)}

    def _penalties(self) -> dict[str, tuple[float, Tensor]]:
        weights = self.penalty_weights()
        if not any(weights.values()):
            return {}
        pt_K, pt_P = self._probe()
        terms: dict[str, tuple[float, Tensor]] = {}
        if weights["monotonic"]:
            terms["monotonic"] = weights["monotonic"], rises(pt_K.flip(0))  # the grid falls in the angle
        if weights["boundary"]:
            terms["boundary"] = weights["boundary"], boundary_penalty(pt_P)
        return terms

    def _probe(self) -> tuple[Tensor, Tensor]:
        """Predict pT (K,) on the grid and (P,) at the boundary table with the present model, without dropout."""
        pt_KP: Tensor = self.network(self.probe_KP2)
        return pt_KP[: len(self._inverse_K)], pt_KP[len(self._inverse_K) :]

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            pt_K, pt_P = self._probe()
        return super().validate() | {
            "monotonic_violation": monotonic_penalty(pt_K, 1 / self._inverse_K).item(),
            "boundary_error": boundary_deviation(pt_P).abs().mean().item(),
        }

    def _for_report(self) -> dict[str, Any]:
        with torch.no_grad():
            pt_K, _ = self._probe()
        return {"curve": (self._inverse_K.cpu().numpy(), pt_K.cpu().numpy())}


class PtCombinedTraining(PtTraining):
    """Model 3: pT from both branches' predictions, with a correction of high pT that is no part of the training."""

    config: PtCombinedConfig
    data: CombinedData

    def __init__(self, config: PtCombinedConfig, data: CombinedData, device: torch.device) -> None:
        super().__init__(config, data, device)
        # truths of all that can be in the peak of a prediction above the start
        self._high_N = (self.truth_N >= config.post_start / (1 + PEAK)).nonzero().squeeze(1)
        if config.post_correction == "given":
            self._correction.set_to(config.post_start, config.post_offset, config.post_slope)

    def _features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        train, validation = self.data.train, self.data.validation
        return (
            combined_inputs(train, self.data.train_branch_N2),
            combined_inputs(validation, self.data.validation_branch_N2),
        )

    @property
    def _correction(self) -> PostCorrection:
        assert self.network.correction is not None
        return self.network.correction

    def end_epoch(self) -> dict[str, float]:
        numbers = super().end_epoch()
        if self.config.post_correction == "fitted":
            pred_N = in_chunks(self.network.estimate, self.train_NF[self._high_N])
            fitted = fit_correction(pred_N.cpu(), self.truth_N[self._high_N].cpu(), self.config.post_start)
            self._correction.set_to(self.config.post_start, *fitted)
        return numbers

    def validate(self) -> dict[str, float]:
        numbers = super().validate()
        uncorrected = self._uncorrected().numbers()
        return numbers | {f"{name}_uncorrected": uncorrected[name] for name in CORRECTED_NUMBERS}

    def _for_report(self) -> dict[str, Any]:
        return {} if self._correction.changes_nothing else {"uncorrected": self._uncorrected()}

    def _uncorrected(self) -> Scores:
        return self._scores_of(in_chunks(self.network.estimate, self.validation_NF))
