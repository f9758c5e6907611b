"""What was promoted: shown, taken back, and written out for those who use it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.promotion.registry import Registry
from search.reporting.leaderboard import number
from search.reporting.summary import ConsoleReporter
from trainables.export.package import ADVICE, MANIFEST, PackageError, read_package


def show(registry: Registry, console: Console) -> None:
    """A table of all versions, the newest first."""
    champion = registry.champion()
    table = Table(title=Text(f"{registry.name} in the registry at {registry.where}"))
    for name in ("", "", "promoted", "search and training", "objective", "less champion then", "forced because"):
        table.add_column(name, no_wrap=name in ("", "promoted", "objective"))
    for version in reversed(registry.versions()):
        tags, objective = version.tags, version.tags.get("objective", "")
        in_use = champion is not None and version.number == champion.number
        against = f"version {version.against}: " if version.against.isdecimal() else ""
        cells = (
            str(version.number),
            "champion" if in_use else version.state.replace("champion", "once champion"),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created_ms / 1000)),
            f"{tags.get('search', '')}\n{tags.get('training', '')}",
            f"{objective} {number(float(tags[objective]))}" if objective in tags else "",
            against + tags.get(f"{objective}_less_champion", ""),
            tags.get("forced", ""),
        )
        table.add_row(*map(Text, cells), style="cyan" if in_use else None)  # what people wrote is no markup
    console.print(table)


def roll_back(registry: Registry, console: Console) -> None:
    """The previous champion is the champion again."""
    gone, back = registry.roll_back()
    ConsoleReporter(console).print_line(
        f"version {back.number} is the champion again; version {gone.number} is rolled back"
    )


def export(registry: Registry, folder: Path, console: Console) -> None:
    """The champion's package, verified, into a folder that is new or holds an earlier export.

    Raises
    ------
    UsageError
        There is no champion; the folder holds something else.
    PackageError
        The files are not those that were registered.
    """
    champion = registry.champion()
    if champion is None:
        raise UsageError(f"There is no champion of {registry.name} yet: python -m search.promote {registry.name}")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and (not folder.is_dir() or (there and MANIFEST not in there)):
        raise UsageError(f"--export {folder}: expected a new folder, or one of an earlier export; found other files.")
    with TemporaryDirectory() as temporary:
        package = read_package(registry.fetch_package(champion, Path(temporary)), champion.tags.get("package"))
        if there:
            _check_earlier(folder)
        try:
            if there:
                shutil.rmtree(folder)
            shutil.copytree(package.folder, folder, dirs_exist_ok=True)
        except OSError as error:
            raise UsageError(f"--export {folder}: cannot be written: {error.strerror or error}.") from error
    say = ConsoleReporter(console).print_line
    say(f"version {champion.number} of {registry.name}, in {folder.resolve()}:")
    for name, stored in sorted(package.manifest.files.items()):
        graph = package.manifest.onnx.get(name)
        told = f"  {graph.input} ({len(graph.columns)} values) -> {graph.output}" if graph else ""
        say(f"  {name} ({stored.bytes:,} bytes){told}")


def _check_earlier(folder: Path) -> None:
    """Only what was exported is replaced; raises UsageError where anything in it was changed or added."""
    try:
        read_package(folder)
    except PackageError as error:
        what = str(error).removesuffix(ADVICE).strip()
        raise UsageError(f"--export {folder}: {what} Name another folder, or delete this one.") from error
