"""Draw the figures of the complete trials that are kept, while the search goes on, and put them where they belong."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.redaction import first_line
from search.reporting.draw_pool import DrawPool
from search.reporting.draw_process import Artist
from search.storage.trial_record import TrialListener, TrialRecord
from search.tracking.events import EventRecorder
from trainables.base.checkpoint import FIGURE_DATA, REPORT_ERROR, REPORT_FOLDER

Keeps = Callable[[TrialRecord], bool]


@dataclass(frozen=True)
class _Drawn:
    """New files of one trial's report."""

    trial: TrialRecord
    folder: TemporaryDirectory[str]


class TrialFigures(TrialListener):
    """Figures of the trials that are kept, and of presets, from the tables in their checkpoints.

    A report holds ``FIGURE_DATA`` until its figures are in the event log and in the checkpoint; so a search that was
    killed draws the rest when it is resumed. A drawing that fails is recorded in ``REPORT_ERROR``.

    Processes draw. What they have drawn is put in its place by the thread that runs the search, at the next event, and
    at its end. As a listener it must come before the listeners that copy files and that delete checkpoints.
    """

    def __init__(self, pool: DrawPool, events: EventRecorder, say: Callable[[str], object]) -> None:
        self._pool, self._events, self._say = pool, events, say
        self._keeps: Keeps = lambda _trial: True
        self._pending: list[Future[None]] = []
        self._drawn: deque[_Drawn] = deque()

    # --- while trials run

    def follow(self, keeps: Keeps, known: Iterable[TrialRecord]) -> None:
        """Draw for the trials that are kept, also what earlier processes have left of theirs."""
        self._keeps = keeps
        for trial in known:
            self.trial_ended(trial)

    def epoch_ended(self, trial: TrialRecord) -> None:
        self._place()

    def trial_ended(self, trial: TrialRecord) -> None:
        self._place()
        if trial.outcome == "complete" and self._wants(trial) and _is_undrawn(trial):
            self._pending.append(self._pool.submit(lambda artist: self._draw(trial, artist)))

    # --- at the end

    def compare(self, reports: Mapping[str, Path], folder: Path) -> Future[None]:
        """Draw a comparison of several trials."""

        def draw(artist: Artist) -> None:
            if error := artist.compare(reports, folder):
                raise RuntimeError(error.strip().rpartition("\n")[2])

        return self._pool.submit(draw) if self._pool.started else self._pool.draw_here(draw)

    def hurry(self) -> None:
        """Use all cores, because the trials have ended."""
        self._pool.hurry()

    def finish(self, futures: Iterable[Future[None]] | None = None) -> None:
        """Wait for these comparisons; without any, for the figures of trials, and put them in their places."""
        self._pool.finish(self._pending if futures is None else futures)
        self._place()

    def close(self) -> None:
        """Leave what is not drawn to a resume."""
        self._pool.close()
        while self._drawn:
            self._drawn.popleft().folder.cleanup()

    # --- in a thread of the pool

    def _draw(self, trial: TrialRecord, artist: Artist) -> None:
        assert trial.checkpoint is not None
        if not self._wants(trial):
            return
        draft = TemporaryDirectory(prefix="figures-")
        try:
            report = Path(draft.name, REPORT_FOLDER)
            with trial.checkpoint.joinpath(REPORT_FOLDER).as_folder() as stored:
                shutil.copytree(stored, report)
            before = {file.name for file in report.iterdir()}
            error = artist.draw_report(report)
            if error:
                (report / REPORT_ERROR).write_text(error)
            for name in before - {FIGURE_DATA}:
                (report / name).unlink()
            (report / FIGURE_DATA).unlink()
        except OSError as problem:  # deleted meanwhile, a full disk, a store that is away
            draft.cleanup()
            if self._wants(trial):
                self._say(f"warning  {trial.label}: figures not drawn ({first_line(problem)}); a resume draws them")
            return
        self._drawn.append(_Drawn(trial, draft))

    def _wants(self, trial: TrialRecord) -> bool:
        return trial.preset is not None or (trial.repeats is None and self._keeps(trial))

    # --- in the thread of the search

    def _place(self) -> None:
        while self._drawn:
            drawn = self._drawn.popleft()
            with drawn.folder as folder:
                self._place_one(drawn.trial, Path(folder, REPORT_FOLDER))

    def _place_one(self, trial: TrialRecord, files: Path) -> None:
        """Record new files for MLflow, then put them into the checkpoint, if it is kept."""
        assert trial.checkpoint is not None
        self._events.log_report(trial, files)
        try:
            for file in sorted(files.iterdir()) if self._keeps(trial) else ():
                trial.checkpoint.write(f"{REPORT_FOLDER}/{file.name}", file.read_bytes())
            trial.checkpoint.delete(f"{REPORT_FOLDER}/{FIGURE_DATA}")
        except OSError as error:
            self._say(f"warning  {trial.label}: figures not stored ({first_line(error)}); a resume draws them again")


def _is_undrawn(trial: TrialRecord) -> bool:
    """Return whether a report waits for its figures; a workload may also draw in its trials, or not at all."""
    if trial.checkpoint is None:
        return False
    try:
        return trial.checkpoint.holds(f"{REPORT_FOLDER}/{FIGURE_DATA}")
    except OSError:  # a store that is away: try to draw
        return True
