"""The functions that a workload provides besides its ``Training``: what each receives, returns and raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from trainables.base.training import TrainedModel
    from trainables.evaluation.scores import Evaluation
    from trainables.export.package import Package

Numbers = Mapping[str, float]  # metric -> value
Models = Mapping[str, "TrainedModel"]  # workload -> the upstream model of it; empty where the workload has none


class Data(Protocol):
    """The data of a trial, never the holdout."""

    @property
    def validation(self) -> Any:
        """The events that trials are scored on."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the arrays depend on: equal fingerprints, equal arrays."""

    @property
    def summary(self) -> Sequence[str]:
        """Lines for people: files, events, what was skipped."""

    @property
    def objective_version(self) -> str:
        """Everything that the meaning of a score depends on; values of different versions are never compared."""


class SuggestPoint(Protocol):
    def __call__(self, trial: Any, /) -> dict[str, Any]:
        """Ask an Optuna trial for each hyperparameter that is searched; return the point."""


class LoadArrays(Protocol):
    def __call__(self, files: tuple[str, ...], /) -> Mapping[str, Any]:
        """Read files, given as absolute names, into arrays by name; row i of every array is event i."""


class LoadData(Protocol):
    def __call__(self, settings: Any, cache_dir: Path, /) -> Data:
        """Load train and validation events of the user's files, or of the carried sample where none is named.

        Parameters
        ----------
        settings : the workload's DataSettings
        cache_dir : Path
            Folder of the columnar caches; made where it does not exist.

        Raises
        ------
        DataError
            Files cannot be read, their content cannot be right, they hold too few events, or they share events with
            the holdout.
        """


class LoadHoldout(Protocol):
    def __call__(self, settings: Any, cache_dir: Path, /) -> Any:
        """Load the events that no trial sees; only a promotion calls this. Raises as ``LoadData`` does."""


class SimulateData(Protocol):
    def __call__(self, events: int, seed: int, /) -> Data:
        """Simulate small data without any file: for tests and for sizing."""


class JoinModels(Protocol):
    def __call__(self, data: Any, models: Models, /) -> Data:
        """Add what trained upstream models contribute to the data.

        Raises
        ------
        DataError
            A model is missing or gives no finite numbers.
        """


class ScoreBaselines(Protocol):
    def __call__(self, data: Any, /) -> Mapping[str, Numbers]:
        """Score naive predictors on the validation events, or quote published results: label -> metrics of a trial."""


class CompareTrials(Protocol):
    def __call__(self, reports: Mapping[str, Path], folder: Path, /) -> None:
        """Draw figures that compare trials, given as label -> folder of the trial's report, into a folder."""


class CompareSeeds(Protocol):
    def __call__(self, reports: Mapping[str, Sequence[Path]], folder: Path, /) -> None:
        """Draw figures of means over seeds with their bands, given as label -> reports of trainings of one point."""


class EvaluateModel(Protocol):
    def __call__(
        self, model: TrainedModel, upstream: Models, holdout: Any, data: Any, replicas: int, device: torch.device, /
    ) -> Evaluation:
        """Evaluate a trained model on the holdout, with bootstrap replicas; ``data`` are those it was trained on.

        Raises
        ------
        DataError
            Too few bins of the objective have enough events.
        """


class EvaluateBaselines(Protocol):
    def __call__(self, data: Any, holdout: Any, replicas: int, /) -> Mapping[str, Evaluation]:
        """Evaluate naive predictors, fitted to the training events, on the holdout, by label."""


class DrawHoldout(Protocol):
    def __call__(self, evaluations: Mapping[str, Evaluation], file: Path, reference: str | None, /) -> None:
        """Draw the scores of models and naive predictors on the holdout, and differences to the reference model."""


class PackageModel(Protocol):
    def __call__(
        self,
        model: TrainedModel,
        upstream: Models,
        holdout: Any,
        settings: Any,
        about: Mapping[str, Any],
        folder: Path,
        /,
    ) -> Package:
        """Write a trained model for its users: weights, and ONNX files that are checked on the holdout.

        Parameters
        ----------
        model : TrainedModel
        upstream : mapping of workload to TrainedModel
            The models that this one is built on; they become part of the package.
        holdout : events of ``LoadHoldout``
        settings : the workload's DataSettings, with which the model was trained
        about : mapping of str to JSON values
            Further facts: search, trial, seed, commit, fingerprint, objective version ...
        folder : Path
            Must not exist, or be empty.

        Raises
        ------
        DataError
            An upstream model is missing, or an ONNX file does not give what PyTorch gives.
        """
