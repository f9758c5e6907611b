"""Every hyperparameter of the three pT models and of their training, with unit, range and default."""

from __future__ import annotations

from math import cos, pi
from typing import Literal

from pydantic import Field

from trainables.base.training import TrainedModel, TrainingConfig


class PtConfig(TrainingConfig):
    """Hyperparameters of all three models. Defaults are the report's, or marked (ours) where it leaves them open.

    Source: ML4Reco, "electron pT from silicon and calorimeter", sPHENIX.
    """

    learning_rate: float = Field(5e-5, gt=0, description="of Adam (ours), in the first update")
    final_rate: float = Field(
        1.0, ge=0, le=1, description="rate of the last update per first, on a half cosine (ours: 1, constant)"
    )
    width: int = Field(256, ge=1, description="neurons of each hidden layer")
    depth: int = Field(3, ge=1, description="hidden layers")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden neurons left out in an update")
    weight_decay: float = Field(0.0, ge=0, description="decoupled from the gradient (ours: 0, none)")
    peak_weight: float = Field(3.0, gt=0, description="weight of events in the peak; of the others 1")
    peak_window: float = Field(0.2, ge=0, description="an event is in the peak where |truth - pred| / truth is smaller")

    def rate_of(self, update: int, total_updates: int) -> float:
        """Return the learning rate of update 0, 1, ... of ``total_updates``."""
        done = update / max(total_updates - 1, 1)
        share = self.final_rate + (1 - self.final_rate) * (1 + cos(pi * done)) / 2
        return self.learning_rate * share


class PtEnergyConfig(PtConfig):
    """Model 1: pT from positions and the energy of the cluster."""

    epochs: int = Field(200, ge=1, description="epochs of the whole run")
    features: Literal["energy", "full"] = Field("energy", description="inputs: the report's seven, or all that is read")


class PtDphiConfig(PtConfig):
    """Model 2: pT from the bending angle, constrained to physics by two penalties."""

    epochs: int = Field(500, ge=1, description="epochs of the whole run")
    monotonic: bool = Field(True, description="punish a pT that rises with the angle")
    lambda_mono: float = Field(0.3, ge=0, description="monotonic penalty, in GeV, per main loss")
    boundary: bool = Field(True, description="punish deviations from pT = C / angle at nine angles")
    boundary_ramp: float = Field(0.005, ge=0, description="growth of the boundary penalty's weight per epoch")
    boundary_cap: float = Field(0.2, ge=0, description="largest weight of the boundary penalty")

    def lambda_boundary(self, epoch: int) -> float:
        """Return the boundary penalty's weight in epoch 1, 2, ...: ``min(ramp * epoch, cap)``; 0 where it is off."""
        return min(self.boundary_ramp * epoch, self.boundary_cap) if self.boundary else 0.0


class PtCombinedConfig(PtConfig):
    """Model 3: pT from the two others, with a correction of high pT after the training."""

    epochs: int = Field(300, ge=1, description="epochs of the whole run")
    width: int = Field(128, ge=1, description="neurons of each hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden neurons left out in an update (ours: 0, none)")
    post_correction: Literal["none", "fitted", "given"] = Field(
        "given", description="fitted: offset and slope from training events; given: those below"
    )
    post_start: float = Field(8.8, ge=0, description="GeV from which on predictions are corrected")
    post_offset: float = Field(0.02, description="relative correction at post_start")
    post_slope: float = Field(0.08, description="growth of the relative correction per GeV")


CONFIGS: dict[str, type[PtConfig]] = {
    "pt-energy": PtEnergyConfig,
    "pt-dphi": PtDphiConfig,
    "pt-combined": PtCombinedConfig,
}


def config_of(model: TrainedModel) -> PtConfig:
    """Return the configuration that the model was trained with."""
    return CONFIGS[model.workload](**model.hyperparameters)
