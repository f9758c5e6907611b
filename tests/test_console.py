"""What people name is shown as they named it, although Rich gives brackets and colons a meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

import search.doctor
import search.promote
import search.report
import search.run
from search.reporting.console import open_console

ODD = "/data/[old]/[/b]/:key:/x.root"


def test_lines_and_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    console.print(table)
    console.print(ODD)
    assert capsys.readouterr().out.count(ODD) == 4


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (search.run.main, ["zdc", "--trials", "1", "--data", ODD]),
        (search.report.main, [ODD]),
        (search.promote.main, [ODD]),
        (search.doctor.main, ["--workload", ODD]),
    ],
)
def test_errors_show_it_too(
    command: Callable[[list[str]], int],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", str(tmp_path))
    assert command(words) in (1, 2)
    assert ODD in capsys.readouterr().out
