"""Any name of a folder survives its ways: into a URI, a shell line, make, a batch script, and back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from finished import Finished, run_search
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy import create_engine, text
from tiny import make_tiny

import search.doctor
from search.cluster.slurm import _quoted
from search.config.provenance import command_line
from search.reporting.summary import _for_make, sync_command
from search.storage.location import Storage
from search.tracking.client import embedded_uri

ROOT = Path(__file__).parents[1]
NASTY = (
    "a?b",
    "a#b",
    "a%25b",
    "a%3Fb",
    "two words",
    "it's",
    'say "hi"',
    "$HOME",
    "a&b;c",
    "back\\slash",
    "Müller",
    "(1)",
)
names = st.text(st.sampled_from("ab ?#%&;'\"$`\\ü=+~!*()[]{}|<>^,:@"), min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and not name.startswith(("-", "~"))
)


def with_nasty_examples(test: Callable[..., None]) -> Callable[..., None]:
    for name in NASTY:
        test = example(name=name)(test)
    return test


@with_nasty_examples
@given(name=names)
def test_the_own_database_lies_in_its_storage(name: str) -> None:
    """And nowhere beside it: two storages would share it."""
    with TemporaryDirectory() as temporary:
        storage = Path(temporary) / name
        (storage / "mlflow").mkdir(parents=True)
        engine = create_engine(embedded_uri(storage))
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE there (x)"))
        engine.dispose()
        assert (storage / "mlflow" / "mlflow.db").stat().st_size > 0
        assert [path.name for path in Path(temporary).iterdir()] == [name]


@with_nasty_examples
@given(name=names)
def test_a_folder_of_artifacts_is_what_mlflow_makes_of_its_uri(name: str) -> None:
    folder = Path("/storage") / name / "mlflow" / "artifacts"
    assert local_file_uri_to_path(folder.as_uri()) == str(folder)


@with_nasty_examples
@given(name=names)
def test_the_doctor_reads_a_storage_as_a_search_does(name: str) -> None:
    for storage in (f"/storage/{name}", Path(f"/storage/{name}").as_uri()):
        assert search.doctor._storage(storage) == str(Storage(storage).folder) == f"/storage/{name}"


@with_nasty_examples
@given(name=names)
def test_a_printed_command_is_what_a_shell_reads(name: str) -> None:
    words = shlex.split(sync_command("mine", f"/storage/{name}"))
    assert words[-2:] == ["--storage", f"/storage/{name}"]
    words = shlex.split(sync_command("mine", f"/storage/{name}", "http://me:secret@host:5000/a b"))
    assert words[-3:] == [f"/storage/{name}", "--tracking-uri", "http://host:5000/a b"]


@with_nasty_examples
@given(name=names)
def test_a_batch_script_holds_the_words_of_its_command(name: str) -> None:
    assert shlex.split(str(_quoted(["python", "--storage", name]))) == ["python", "--storage", name]


@pytest.mark.parametrize("name", NASTY)
def test_make_receives_the_storage_that_was_printed(tmp_path: Path, name: str) -> None:
    storage = tmp_path / name
    makefile = tmp_path / "makefile"
    makefile.write_text("STORAGE ?= results\nexport STORAGE\nshow:\n\t@printenv STORAGE\n")
    command = f"make --silent --file {shlex.quote(str(makefile))} show STORAGE={_for_make(str(storage))}"
    assert subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout == f"{storage}\n"


@pytest.mark.parametrize("name", NASTY)
def test_make_ui_serves_the_database_of_its_storage(tmp_path: Path, name: str) -> None:
    command = f"make --dry-run ui STORAGE={_for_make(str(tmp_path / name))}"
    shown = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in shown.replace("\\\n", "").splitlines() if "mlflow server" in line)
    _, _, uri = line.replace(".venv/bin/python -c", "python3 -c").partition("--backend-store-uri ")
    ask = subprocess.run(
        f"printf %s {uri}", shell=True, env={"STORAGE": str(tmp_path / name), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ask.stdout == embedded_uri(tmp_path / name)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_in_a_storage_with_a_nasty_name_is_whole(tmp_path: Path) -> None:
    storage = tmp_path / "what? 100%25 'it' #1 & $HOME"
    flags = ("--trials", "1", "--presets", "none", "--epochs", "1", "--scheduler", "none")
    done: Finished = run_search(make_tiny(), storage, "mine", *flags)
    assert done.code == 0, done.text
    assert [path.name for path in tmp_path.iterdir()] == [storage.name]
    assert done.parent.data.tags["search"] == "mine"
    assert "leaderboard.csv" in done.files(done.parent)


@pytest.mark.slow
def test_trials_run_where_the_path_of_python_has_a_space(tmp_path: Path) -> None:
    """As in a checkout with one, where make sets .venv up. Ray gives the path to a shell."""
    environment = tmp_path / "an environment"
    environment.symlink_to(sys.prefix)
    python, alone = environment / "bin" / "python", ROOT / "tests" / "alone.py"
    where = ("--storage", str(tmp_path / "results"), "--name", "mine", "--tracking-uri", "journal")
    budget = ("--trials", "1", "--presets", "none", "--epochs", "1", "--scheduler", "none", "--retries", "0")
    ended = subprocess.run(
        [python, alone, "tiny", *where, *budget],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 complete" in ended.stdout


@with_nasty_examples
@given(name=names)
def test_the_command_that_is_shown_is_read_again_as_it_was_typed(name: str) -> None:
    """As --constraint 'auc>=0.9', which would write a file where its quotes are lost."""
    words = ["zdc", "--constraint", "auc>=0.9", "--data", f"/data/{name}/*.root"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", *words])
        shown = command_line()
    assert shlex.split(shown)[3:] == words
    assert "'auc>=0.9'" in shown
