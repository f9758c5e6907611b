"""Searches as pages for a browser, from the command line: python -m search.report NAME [NAME ...]."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from search.config.settings import Site
from search.errors import SearchError, UsageError
from search.reporting.console import open_console
from search.reporting.html.load import read_search
from search.reporting.html.render import REPORT, make_overlay, make_page, write_page
from search.reporting.summary import Summary
from search.storage.location import Storage
from search.storage.search_dir import SearchDir

_LONGEST = 120  # characters in the name of a file


@dataclass(frozen=True)
class Pages:
    """The flags of a report."""

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="search; of several, an overlay too")
    ]
    storage: Annotated[str, tyro.conf.arg(help="folder or URL of the searches; from $SEARCH_STORAGE if set")] = field(
        default_factory=lambda: Site().storage
    )
    out: Annotated[
        Path | None,
        tyro.conf.arg(help="file of the page, or of the overlay of several; None: report.html in the search's folder"),
    ] = None


def main(arguments: list[str] | None = None) -> int:
    """Write the pages; returns the exit code."""
    console = open_console()
    try:
        write_pages(tyro.cli(Pages, prog="python -m search.report", args=arguments), Summary(console))
    except SearchError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def write_pages(pages: Pages, summary: Summary) -> None:
    """One page for each search, and for several their overlay.

    Raises
    ------
    UsageError
        A name that there is none of, or a file that cannot be written.
    """
    storage, names = Storage(pages.storage), tuple(dict.fromkeys(pages.names))
    if not names:
        raise UsageError("Name at least one search: python -m search.report NAME")
    searches = [read_search(storage, name) for name in names]
    alone = pages.out if len(searches) == 1 else None
    for searched in searches:
        _write(make_page(searched), alone or searched.path / REPORT, summary)
        if not alone:
            SearchDir(storage, searched.name).upload(REPORT)
    if len(searches) > 1:
        overlay = storage.folder / "reports" / f"{'--'.join(names)[:_LONGEST]}.html"
        _write(make_overlay(searches), pages.out or overlay, summary)


def _write(html: str, file: Path, summary: Summary) -> None:
    try:
        write_page(html, file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}. Name another file with --out.") from error
    summary.say(f"report   {file} ({len(html.encode()) / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    sys.exit(main())
