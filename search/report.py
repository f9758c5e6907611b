"""Write HTML reports for one or more searches: python -m search.report NAME [NAME ...]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from search.config.settings import StorageFlags
from search.errors import SearchError, UsageError
from search.reporting.console import open_console, run_command
from search.reporting.summary import ConsoleReporter
from search.storage.disk import write_atomically

_LONGEST = 120  # characters in the name of a file


class Flags(StorageFlags):
    """Write an HTML report for each search, and an overlay for several."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = Field(
        description="search; of several, an overlay too"
    )
    out: Path | None = Field(
        None, description="file of the page, or of the overlay of several; None: report.html in the search's folder"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the reports; return the exit code."""
    console, flags = open_console(), tyro.cli(Flags, prog="python -m search.report", args=arguments)
    try:
        write_reports(flags, ConsoleReporter(console))
    except SearchError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def write_reports(flags: Flags, reporter: ConsoleReporter) -> None:
    """Write one report for each search, and for several their overlay.

    Raises
    ------
    UsageError
        There is no search of a name, or a file cannot be written.
    """
    names = tuple(dict.fromkeys(flags.names))
    if not names:
        raise UsageError("Name at least one search: python -m search.report NAME")
    # imported here, so that --help and a wrong flag answer at once
    from search.reporting.html.load import read_search
    from search.reporting.html.render import REPORT, render_overlay, render_page
    from search.storage.location import Storage
    from search.storage.search_dir import SearchDir

    storage = Storage(flags.storage)
    with reporter.announcing("report   reading what the searches recorded ..."):
        searches = [read_search(storage, name) for name in names]
    single = flags.out if len(searches) == 1 else None
    for search in searches:
        with reporter.announcing(f"report   drawing the page of {search.name} ..."):
            page = render_page(search)
        _write(page, single or search.path / REPORT, reporter)
        if not single:
            SearchDir(storage, search.name).upload(REPORT)
    if len(searches) > 1:
        overlay = storage.folder / "reports" / f"{'--'.join(names)[:_LONGEST]}.html"
        _write(render_overlay(searches), flags.out or overlay, reporter)


def _write(html: str, file: Path, reporter: ConsoleReporter) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, html)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}. Name another file with --out.") from error
    reporter.print_line(f"report   {file} ({len(html.encode()) / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    run_command(main)
