"""Help and wrong flags answer at once: what is imported for them is counted, for time depends on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "ray", "mlflow", "optuna", "matplotlib", "plotly", "pandas", "scipy", "awkward", "uproot", "pyarrow"}
MOST_MODULES = 900
SCRIPT = """
import contextlib, io, runpy, sys
sys.argv = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
print(code, len(sys.modules), *sorted(name for name in sys.modules if "." not in name))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["search.run", "--help"], 0),
        (["search.run", "zdc", "--help"], 0),
        (["search.run", "pt", "--help"], 0),
        (["search.run", "zdc", "--trails", "3"], 2),
        (["search.run", "zcd"], 2),
        (["search.submit", "--help"], 0),
        (["search.submit", "zdc", "--to", "moon"], 2),
        (["search.promote", "--help"], 0),
        (["search.report", "--help"], 0),
        (["search.doctor", "--help"], 0),
        (["search.doctor", "--onyl", "data"], 2),
        (["search.check", "--help"], 0),
        (["search.check", "zdc", "--epoch", "3"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_a_wrong_flag_import_no_library(words: list[str], code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    found, modules, *names = ended.stdout.split()
    assert int(found) == code, ended.stdout + ended.stderr
    assert not HEAVY & set(names)
    assert int(modules) <= MOST_MODULES


@pytest.mark.parametrize(
    "line",
    [
        "import search; dir(search)",
        "from search import Workload, Training, TrainingConfig, SearchError, DataError",
        "from search import run, load, promote",
    ],
)
def test_importing_search_imports_no_library(line: str) -> None:
    script = f"import sys\n{line}\nprint(len(sys.modules), *sorted(name for name in sys.modules if '.' not in name))"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    modules, *names = ended.stdout.split()
    assert not HEAVY & set(names)
    assert int(modules) <= MOST_MODULES
