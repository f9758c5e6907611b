"""Show the promoted versions, roll back the champion, and export its files."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.promotion.registry import Registry
from search.reporting.console import SafeConsole
from search.reporting.leaderboard import number
from search.reporting.summary import ConsoleReporter
from trainables.export.package import ADVICE, MANIFEST, PackageError, read_package


def show(registry: Registry, console: SafeConsole) -> None:
    """Print a table of all versions, the newest first."""
    champion = registry.champion()
    table = Table(title=Text(f"{registry.name} in the registry at {registry.uri}"))
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
        table.add_row(*map(Text, cells), style="cyan" if in_use else None)  # Text: brackets in a reason are no markup
    console.print(table)


def roll_back(registry: Registry, console: SafeConsole) -> None:
    """Make the previous champion the champion again."""
    before, after = registry.roll_back()
    ConsoleReporter(console).print_line(
        f"version {after.number} is the champion again; version {before.number} is rolled back"
    )


def export(registry: Registry, folder: Path, console: SafeConsole) -> None:
    """Verify the champion's package and copy it into a folder that is new or holds an earlier export.

    Raises
    ------
    UsageError
        There is no champion; the folder holds something else.
    PackageError
        The files are not those that were registered.
    """
    champion = registry.champion()
    if champion is None:
        raise UsageError(f"There is no champion of {registry.name} yet. Promote one with search.promote.")
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and (not folder.is_dir() or (present and MANIFEST not in present)):
        raise UsageError(f"--export {folder}: expected a new folder, or one of an earlier export; found other files.")
    reporter = ConsoleReporter(console)
    with TemporaryDirectory() as temporary:
        with reporter.announcing(f"export   fetching the files of version {champion.number} ..."):
            package = read_package(registry.fetch_package(champion, Path(temporary)), champion.tags.get("package"))
        if present:
            _require_unchanged(folder)
        try:
            if present:
                shutil.rmtree(folder)
            shutil.copytree(package.folder, folder, dirs_exist_ok=True)
        except OSError as error:
            raise UsageError(f"--export {folder}: cannot be written: {error.strerror or error}.") from error
    say = reporter.print_line
    say(f"version {champion.number} of {registry.name}, in {folder.resolve()}:")
    for name, stored in sorted(package.manifest.files.items()):
        graph = package.manifest.onnx.get(name)
        signature = f"  {graph.input} ({len(graph.columns)} values) -> {graph.output}" if graph else ""
        say(f"  {name} ({stored.bytes:,} bytes){signature}")


def _require_unchanged(folder: Path) -> None:
    """Raise UsageError where a file of an earlier export was changed or added, because it would be lost."""
    try:
        read_package(folder)
    except PackageError as error:
        reason = str(error).removesuffix(ADVICE).strip()
        raise UsageError(f"--export {folder}: {reason} Name another folder, or delete this one.") from error
