"""Physics figures of the best trials, as images inside the page: drawn together, and side by side."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.redaction import first_line
from search.reporting.html.load import SearchSnapshot
from search.storage.trial_record import TrialRecord
from search.workloads import Workload
from trainables.base.trainable import REPORT_ERROR, REPORT_FOLDER

SIDE_BY_SIDE = 3  # best trials whose figures are shown, beside the best preset
TOGETHER = 5  # best trials drawn into the same figures, beside the best preset


@dataclass(frozen=True)
class Image:
    """One picture."""

    caption: str
    uri: str  # the picture itself


@dataclass(frozen=True)
class Row:
    """The same figure of several trials."""

    name: str
    images: list[Image]


@dataclass(frozen=True)
class Images:
    """All pictures of a page, and what is missing, in words."""

    together: list[Image]  # several trials in each
    rows: list[Row]  # of one trial each
    shared: list[Image]  # the same for all trials: of the data
    missing: list[str]


def images_of(searched: SearchSnapshot) -> Images:
    """Figures of the best complete trials and of the best preset, from what their checkpoints keep."""
    chosen = _chosen(searched, TOGETHER)
    with reports_of(searched, chosen) as reports:
        missing = [
            f"{record.label}: no report is kept." for record in chosen if record.label not in reports
        ]  # it could not be drawn, or was deleted
        together, failed = drawn_together(searched.workload, reports)
        side = [record.label for record in _chosen(searched, SIDE_BY_SIDE)]
        pictures = {label: _pictures(report) for label, report in reports.items() if label in side}
    bare = [label for label, found in pictures.items() if not found and any(pictures.values())]
    missing += [f"{label}: its figures were deleted with its checkpoint; --keep holds more of them." for label in bare]
    rows, shared = _arrange({label: found for label, found in pictures.items() if found})
    return Images(together, rows, shared, missing + failed)


def drawn_together(workload: Workload | None, reports: Mapping[str, Path]) -> tuple[list[Image], list[str]]:
    """What the workload draws of several reports, and, if it cannot, why."""
    if not reports or workload is None:
        return [], []
    with TemporaryDirectory() as temporary:
        try:
            workload.compare(reports, Path(temporary))
        except Exception as error:  # whatever a plotting library makes of a file that is not whole
            return [], [f"The comparison could not be drawn: {type(error).__name__}: {first_line(error)}"]
        return [Image(_readable(file), _uri(file.read_bytes())) for file in sorted(Path(temporary).glob("*.png"))], []


@contextmanager
def reports_of(searched: SearchSnapshot, records: Iterable[TrialRecord]) -> Iterator[dict[str, Path]]:
    """Folders of trials' reports by label, as far as they are kept."""
    with ExitStack() as held:
        found = {record.label: _report(searched, record, held) for record in records}
        yield {label: report for label, report in found.items() if report is not None}


def _report(searched: SearchSnapshot, record: TrialRecord, held: ExitStack) -> Path | None:
    """In the trial's checkpoint, or where that lies now if the search's folder was moved."""
    if record.checkpoint is None:
        return None
    path = Path(record.checkpoint.path)
    moved = searched.path / path.parent.name / path.name
    if moved.exists():
        checkpoint = moved
    elif record.checkpoint.is_local:
        checkpoint = path
    else:
        try:
            checkpoint = held.enter_context(record.checkpoint.as_folder())
        except OSError:  # a store that is away
            return None
    report = checkpoint / REPORT_FOLDER
    return report if report.is_dir() and not (report / REPORT_ERROR).exists() else None


def _chosen(searched: SearchSnapshot, count: int) -> list[TrialRecord]:
    """The best trials, with the best preset if it is none of them."""
    best = searched.complete[:count]
    presets = [record for record in searched.complete if record.preset]
    return best + [record for record in presets[:1] if record not in best]


def _pictures(report: Path) -> dict[str, Image]:
    """By file name."""
    return {file.name: Image(_readable(file), _uri(file.read_bytes())) for file in sorted(report.glob("*.png"))}


def _arrange(pictures: Mapping[str, Mapping[str, Image]]) -> tuple[list[Row], list[Image]]:
    """Rows of one figure each; what is the same picture for all trials stands apart, once."""
    rows, shared = [], []
    for name, count in Counter(name for found in pictures.values() for name in found).items():
        images = {label: found[name] for label, found in pictures.items() if name in found}
        first = next(iter(images.values()))
        if count > 1 and len({image.uri for image in images.values()}) == 1:
            shared.append(first)
        else:
            rows.append(Row(first.caption, [Image(label, image.uri) for label, image in images.items()]))
    return rows, shared


def _readable(file: Path) -> str:
    return file.stem.replace("_", " ")


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
