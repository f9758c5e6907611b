"""The contract of one training run, which every workload fulfils and which needs no Ray.

It imports and trains where ray, mlflow and optuna are not installed: a bare GPU machine, a notebook, a profiler::

    training = ZDCTraining(ZDCConfig(epochs=5), data, torch.device("cpu"))
    while not training.finished:
        print(training.train_epoch() | training.validate())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from trainables.base.checkpoint import FIGURE_DATA

if TYPE_CHECKING:  # configurations and --help need no torch
    import torch

    from trainables.base.stack import TrainingStack


class TrainingConfig(BaseModel):
    """Every hyperparameter of a run, with its unit and default; frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(50, ge=1, description="epochs of the whole run; schedules stretch over exactly these")
    batch_size: int = Field(1024, ge=2, description="events per update")
    seed: int = Field(0, ge=0, description="seed of initial weights, order of events and noise")


@dataclass(frozen=True)
class TrainedModel:
    """A model of an earlier search, on which another workload may build."""

    workload: str
    run: str  # of MLflow, or a word for where it came from
    hyperparameters: Mapping[str, Any]  # of that workload's configuration
    weights: Mapping[str, torch.Tensor]  # its ``Training.weights()``


class Training(ABC):
    """One training run: built from a configuration, data and a device; trains, validates, and can be saved.

    ``train_epoch`` and ``validate`` return numbers and neither log, plot, save nor decide. Both raise
    ``TrainingDiverged`` when the run cannot recover.
    """

    stack_type: ClassVar[type[TrainingStack] | None] = None  # in which runs train together; None: each trains alone

    config: TrainingConfig
    epoch: int  # finished epochs

    @abstractmethod
    def __init__(self, config: Any, data: Any, device: torch.device) -> None: ...

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train one epoch and increase ``self.epoch`` by one; return losses, rates and counts."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Score the present model on the validation events; return the workload's declared metrics."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to continue bit for bit.

        Only tensors, numbers, strings, and lists and dicts of them, because ``torch.load(weights_only=True)`` reads it.
        """

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from ``state()`` of a run of the same data and architecture.

        Hyperparameters that may change within a run (``MUTABLE`` of the workload's space) keep the values of this
        run's own configuration.
        """

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of what inference needs: the model with its normalisation constants."""

    @abstractmethod
    def write_report(self, folder: Path) -> None:
        """Write figures (.png) and tables (.csv) of the present model into an existing folder."""

    def write_tables(self, folder: Path) -> None:
        """Write the part of the report that must be written where the events are; by default the whole report.

        A trial calls this one, and its core or GPU waits meanwhile. A workload whose figures can be drawn elsewhere
        writes its tables here, and what its figures show beyond them as arrays into ``FIGURE_DATA``; ``draw_report``
        makes figures of them. Its ``write_report`` calls both.
        """
        self.write_report(folder)

    @staticmethod
    def draw_report(folder: Path) -> None:
        """Draw the figures of a report in which ``write_tables`` left a file ``FIGURE_DATA``, in any process."""
        raise NotImplementedError(f"{folder} has a file {FIGURE_DATA}, but its training defines no draw_report(folder)")

    @property
    def finished(self) -> bool:
        return self.epoch >= self.config.epochs

    @property
    def progress(self) -> float:
        """Share in [0, 1] of the part of the run in which scores of different runs may be compared; 0: not yet.

        Schedulers place their rungs on it. A workload whose score says little before some point starts there.
        """
        return self.epoch / self.config.epochs
