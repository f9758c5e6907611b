"""The files of a trial's checkpoint folder, and how its weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STATE_FILE = "state.pt"  # what a run resumes from
BEST_FILE = "best.pt"  # weights of the best epoch
LAST_FILE = "last.pt"  # after the last epoch: its weights, to which the trial's value belongs
REPORT_FOLDER = "report"  # after the last epoch: figures and tables
FIGURE_DATA = "figures.npz"  # in a report whose figures are not drawn yet: what they show beyond the tables
REPORT_ERROR = "error.txt"  # in the report of a trial whose figures could not be drawn


def best_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read the weights of a trial's best epoch onto the CPU; no code in the file is run."""
    import torch  # here, because commands that read no weights should start fast

    weights: dict[str, Tensor] = torch.load(checkpoint / BEST_FILE, map_location="cpu", weights_only=True)
    return weights
