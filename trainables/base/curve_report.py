"""The report of a run that gives no figures of its own: what each epoch recorded, as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.base.checkpoint import FIGURE_DATA


class CurveReport:
    """Mixin of a training that records numbers in each epoch. The table is written in the trial, the figure elsewhere.

    A class that writes a report of its own writes all of it in the trial.
    """

    history: Sequence[Mapping[str, float]]

    def write_report(self, folder: Path) -> None:
        """Draw loss and score against the epoch; a user's own figures come after ``super().write_report(folder)``."""
        self._write_table(folder)
        if (folder / FIGURE_DATA).exists():
            self.draw_report(folder)
            (folder / FIGURE_DATA).unlink()

    def write_tables(self, folder: Path) -> None:
        """Leave the figure to ``draw_report``."""
        own = type(self).write_report is not CurveReport.write_report
        (self.write_report if own else self._write_table)(folder)

    @staticmethod
    def draw_report(folder: Path) -> None:
        """Draw the figure from what ``write_tables`` wrote."""
        from trainables.evaluation.curve_plots import draw_curves  # matplotlib is not needed for training

        draw_curves(folder)

    def _write_table(self, folder: Path) -> None:
        from trainables.evaluation.curve_plots import write_curves

        write_curves(folder, self.history)
