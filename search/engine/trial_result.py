"""One trial from Python: its hyperparameters, metrics, figures and model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search.config.redaction import first_line
from search.errors import SearchError
from search.reporting.html.physics_images import open_checkpoint, open_reports
from trainables.base.checkpoint import BEST_FILE, LAST_FILE

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.reporting.leaderboard import Row
    from search.workload import Workload

_TOGETHER = 5  # best trials in a comparison, as at the end of a search


@dataclass(frozen=True)
class Picture:
    """A figure as PNG; a notebook shows it."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> None:
        """Write the figure to a file."""
        Path(path).write_bytes(self.png)

    def __repr__(self) -> str:
        return f"<PNG of {len(self.png)} bytes>"


@dataclass(frozen=True, repr=False)
class TrialResult:
    """What one trial has left."""

    _search: SearchSnapshot
    _row: Row
    _workload: Workload | None

    @property
    def number(self) -> int:
        return int(self._row.number or 0)

    @property
    def label(self) -> str:
        return self._row.label

    @property
    def outcome(self) -> str:
        return self._search.outcome_of(self._search.by_number[self.number])

    @property
    def value(self) -> float | None:
        """The first objective at the last epoch; None: it is not complete."""
        return self._row.value

    @property
    def error(self) -> float | None:
        """The statistical error of the value, where the workload gives one."""
        return self._row.extra_metrics.get("error")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return dict(self._row.hyperparameters)

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of the last epoch that has ended; only those of a complete trial are comparable."""
        return dict(self._search.by_number[self.number].metrics)

    @property
    def figures(self) -> dict[str, Picture]:
        """The figures of the trial's own report, by file name."""
        with open_reports(self._search, [self._search.by_number[self.number]]) as reports:
            return {file.name: _picture(file) for folder in reports.values() for file in sorted(folder.glob("*.png"))}

    def weights(self, *, last: bool = False) -> dict[str, Any]:
        """Read the weights of the best epoch, which a promotion takes too, or of the last one.

        Raises
        ------
        SearchError
            They were deleted, or cannot be read.
        """
        import torch

        try:
            with ExitStack() as opened:
                folder = open_checkpoint(self._search, self._search.by_number[self.number], opened)
                file = folder / (LAST_FILE if last else BEST_FILE)
                weights: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError) as error:
            raise SearchError(
                f"The weights of {self.label} cannot be read ({first_line(error)}). A trial has them once it is "
                "complete, and a search keeps those of its best trials: keep_checkpoints=N of more."
            ) from error
        return weights

    def model(self, *, last: bool = False, device: str = "cpu") -> Any:
        """Load the model of the kept, best epoch, or of the last one.

        It is what ``from_weights(config, weights, device)``, a class method of the workload's training, makes.

        Raises
        ------
        SearchError
            The workload is not known here, its training has no such method, or the weights are gone.
        """
        import torch

        from search.engine.results import require_workload

        workload = require_workload(self._workload, self._search.description["workload"], self._search.name)
        training = workload.training
        make = getattr(training, "from_weights", None)
        if make is None:
            raise SearchError(
                f"{training.__name__} does not say how a model is made of weights: add a class method "
                "from_weights(cls, config, weights, device) to it, which returns what predicts. Until then: .weights()"
            )
        return make(workload.config(**self.hyperparameters), self.weights(last=last), torch.device(device))

    def __repr__(self) -> str:
        value = f", {self._search.goal.objective} {self.value:.4g}" if self.value is not None else ""
        return f"<{self.label} of {self._search.name}: {self.outcome}{value}>"


def draw_figures(search: SearchSnapshot, workload: Workload | None) -> dict[str, Picture]:
    """Return the figures of the best trial, and draw those that compare the best trials with the presets."""
    chosen = [*search.complete[:_TOGETHER], *(record for record in search.complete if record.preset)]
    with open_reports(search, {record.number: record for record in chosen}.values()) as reports:
        best = [folder for record in search.complete[:1] if (folder := reports.get(record.label))]
        found = {file.name: _picture(file) for folder in best for file in sorted(folder.glob("*.png"))}
        if workload is not None and reports:
            with TemporaryDirectory() as temporary:
                workload.compare(reports, Path(temporary))
                found |= {f"comparison/{file.name}": _picture(file) for file in sorted(Path(temporary).glob("*.png"))}
    return found


def _picture(file: Path) -> Picture:
    return Picture(file.read_bytes())
