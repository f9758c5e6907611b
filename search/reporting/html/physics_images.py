"""Physics figures of the best trials as images for a report: drawn together, and side by side."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from search.config.redaction import first_line
from search.workload import no_figures
from trainables.base.checkpoint import FIGURE_DATA, REPORT_ERROR, REPORT_FOLDER

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.storage.trial_record import TrialRecord
    from search.workload import Workload

_SIDE_BY_SIDE = 3  # best trials whose figures are shown, beside the best preset
_TOGETHER = 5  # best trials drawn into the same figures, beside the best preset


@dataclass(frozen=True)
class Image:
    """A picture with its caption."""

    caption: str
    uri: str  # a data URI: the picture itself


@dataclass(frozen=True)
class ImageRow:
    """The same figure of several trials."""

    name: str
    images: list[Image]


@dataclass(frozen=True)
class PhysicsImages:
    """All physics figures of a report."""

    together: list[Image]  # several trials in each
    rows: list[ImageRow]  # of one trial each
    shared: list[Image]  # the same for all trials: of the data
    missing: list[str]  # what could not be shown, one sentence each


def load_images(search: SearchSnapshot) -> PhysicsImages:
    """Load the figures of the best complete trials and of the best preset from the reports in their checkpoints."""
    chosen = _choose_trials(search, _TOGETHER)
    with open_reports(search, chosen) as reports:
        # a report could not be drawn, or was deleted
        missing = [f"{record.label}: no report is kept." for record in chosen if record.label not in reports]
        together, failed = draw_comparison(search.workload, reports)
        side = [record.label for record in _choose_trials(search, _SIDE_BY_SIDE)]
        pictures = {label: _load_images(report, search.workload) for label, report in reports.items() if label in side}
    bare = [label for label, found in pictures.items() if not found and any(pictures.values())]
    missing += [
        f"{label}: its figures were deleted with its checkpoint; --keep-checkpoints keeps more of them."
        for label in bare
    ]
    rows, shared = _arrange({label: found for label, found in pictures.items() if found})
    return PhysicsImages(together, rows, shared, missing + failed)


def draw_seeds(search: SearchSnapshot) -> tuple[list[Image], list[str]]:
    """Draw the points of the race that were trained with two or more new seeds, best first, and say what is missing."""
    workload = search.workload
    of_point: dict[str, list[TrialRecord]] = {}
    for trial in search.complete:
        repeats = [one for one in search.repeats if one.repeats == trial.number and one.outcome == "complete"]
        if len(repeats) > 1:
            of_point[trial.label] = repeats
    if workload is None or workload.compare_seeds is no_figures or not of_point:
        return [], []
    with open_reports(search, [one for repeats in of_point.values() for one in repeats]) as reports:
        kept = {label: [reports[one.label] for one in some if one.label in reports] for label, some in of_point.items()}
        several = {label: found for label, found in kept.items() if len(found) > 1}
        missing = [f"{label}: reports of its trainings in the race are not kept." for label in kept.keys() - several]
        images, failed = _draw(lambda folder: workload.compare_seeds(several, folder)) if several else ([], [])
    return images, sorted(missing) + failed


def draw_comparison(workload: Workload | None, reports: Mapping[str, Path]) -> tuple[list[Image], list[str]]:
    """Draw the workload's comparison of several reports; where that fails, return the reason instead."""
    if not reports or workload is None:
        return [], []
    return _draw(lambda folder: workload.compare(reports, folder))


def _draw(draw: Callable[[Path], None]) -> tuple[list[Image], list[str]]:
    with TemporaryDirectory() as temporary:
        try:
            draw(Path(temporary))
        except Exception as error:  # a plotting library may raise anything for an incomplete file
            return [], [f"The comparison could not be drawn: {type(error).__name__}: {first_line(error)}"]
        return [_load_image(file) for file in sorted(Path(temporary).glob("*.png"))], []


@contextmanager
def open_reports(search: SearchSnapshot, records: Iterable[TrialRecord]) -> Iterator[dict[str, Path]]:
    """Open the folders of those trials' reports that are still stored, by label."""
    with ExitStack() as opened:
        found = {record.label: _open_report(search, record, opened) for record in records}
        yield {label: report for label, report in found.items() if report is not None}


def _open_report(search: SearchSnapshot, record: TrialRecord, opened: ExitStack) -> Path | None:
    """Find the report in the trial's checkpoint."""
    try:
        checkpoint = open_checkpoint(search, record, opened)
    except OSError:  # it has none, or the object store is not reachable
        return None
    report = checkpoint / REPORT_FOLDER
    return report if report.is_dir() and not (report / REPORT_ERROR).exists() else None


def open_checkpoint(search: SearchSnapshot, record: TrialRecord, opened: ExitStack) -> Path:
    """Open the folder of a trial's last checkpoint, also where the search directory was moved; raises OSError."""
    if record.checkpoint is None:
        raise FileNotFoundError("it has no checkpoint")
    path = Path(record.checkpoint.path)
    moved = search.path / path.parent.name / path.name
    if moved.exists():
        return moved
    return path if record.checkpoint.is_local else opened.enter_context(record.checkpoint.as_folder())


def _choose_trials(search: SearchSnapshot, count: int) -> list[TrialRecord]:
    """Choose the best trials, and the best preset if it is none of them."""
    best = search.complete[:count]
    presets = [record for record in search.complete if record.preset]
    return best + [record for record in presets[:1] if record not in best]


def _load_images(report: Path, workload: Workload | None) -> dict[str, Image]:
    """Load the figures of a report by file name; draw those that the search has not drawn yet."""
    if workload is None or not (report / FIGURE_DATA).exists():
        return {file.name: _load_image(file) for file in sorted(report.glob("*.png"))}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, REPORT_FOLDER)
        try:
            shutil.copytree(report, folder)
            workload.training.draw_report(folder)
        except Exception:  # a plotting library may raise anything; the search itself records why
            return {}
        return {file.name: _load_image(file) for file in sorted(folder.glob("*.png"))}


def _arrange(pictures: Mapping[str, Mapping[str, Image]]) -> tuple[list[ImageRow], list[Image]]:
    """Arrange one row for each figure; a picture that is the same for all trials comes once, apart from the rows."""
    rows, shared = [], []
    for name, count in Counter(name for found in pictures.values() for name in found).items():
        images = {label: found[name] for label, found in pictures.items() if name in found}
        first = next(iter(images.values()))
        if count > 1 and len({image.uri for image in images.values()}) == 1:
            shared.append(first)
        else:
            rows.append(ImageRow(first.caption, [Image(label, image.uri) for label, image in images.items()]))
    return rows, shared


def _load_image(file: Path) -> Image:
    return Image(file.stem.replace("_", " "), f"data:image/png;base64,{b64encode(file.read_bytes()).decode()}")
