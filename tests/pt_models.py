"""The training and the configuration of each pT model."""

from __future__ import annotations

from trainables.pt.config import PtCombinedConfig, PtConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.train import PtCombinedTraining, PtDphiTraining, PtEnergyTraining, PtTraining

MODELS: dict[str, tuple[type[PtTraining], type[PtConfig]]] = {
    "energy": (PtEnergyTraining, PtEnergyConfig),
    "dphi": (PtDphiTraining, PtDphiConfig),
    "combined": (PtCombinedTraining, PtCombinedConfig),
}
