"""The command line: wrong words end in one clear message and code 2, before anything is computed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finished import Finished, call, run_search
from pydantic import BaseModel
from tiny import TinyData, make_tiny

from search.config.settings import Budget, Method, Site
from search.workloads import WORKLOADS
from trainables.base.errors import DataError

TINY = make_tiny(good={"x": 0.3, "y": 0.0}, better={"x": 0.3, "y": 0.0})


def one_word(text: str) -> str:
    """Printed text without frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


def refuse(tmp_path: Path, *flags: str, workload: Any = TINY) -> str:
    """The message of a command that must not work."""
    code, text = call(workload, workload.name, "--storage", str(tmp_path), *flags)
    assert code == 2
    assert "Traceback" not in text
    assert not (tmp_path / "searches").exists()
    return one_word(text)


def test_a_word_that_is_no_workload_shows_the_workloads() -> None:
    for words in (["zcd"], []):
        code, text = call(TINY, *words)
        assert code == 2
        assert "zdc" in text
        assert "tiny" in text
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--objective", "lost"], ["objective 'lost'", "Did you mean loss?"]),
        (["--presets", "god"], ["preset 'god'", "Did you mean good?", "There are: good, better"]),
        (["--presets", "good,", "--trials", "1"], ["preset ''"]),
        (["--set", "optionel=3"], ["hyperparameter 'optionel'", "Did you mean optional or slope?"]),
        (["--set", "optional=many"], ["--set optional=many", "valid integer"]),
        (["--set", "batch_size=1"], ["--set batch_size=1", "greater than or equal to 2"]),
        (["--set", "optional"], ["KEY=VALUE"]),
        (["--set", "epochs=3"], ["--epochs"]),
        (["--set", "seed=3"], ["--seed"]),
        (["--also", "optinal"], ["optional hyperparameter 'optinal'", "Did you mean optional?"]),
        (["--also", "x"], ["There are: optional"]),
        (["--trials", "0", "--presets", "none"], ["nothing to run"]),
        (["--trials", "-1"], ["trials", "expected a number of trials"]),
        (["--epochs", "0"], ["epochs", "greater than or equal to 1"]),
        (["--name", "a/b"], ["letters, digits, dots, dashes", "'a/b'"]),
        (["--name", "../up"], ["'../up'"]),
        (["--time-limit", "5 minutes"], ["90s, 30m, 1h30m or 2d", "'5 minutes'"]),
        (["--sampler", "tpi"], ["tpi", "cmaes"]),
        (["--scheduler", "hyperband"], ["hyperband", "asha"]),
        (["--trails", "3"], ["--trails", "--trials"]),
        (["--cpus-per-trial", "0"], ["cpus_per_trial", "a number above 0 or auto; found 0"]),
        (["--cpus-per-trial", "many"], ["--cpus-per-trial", "FLOAT|{auto}", "'many'"]),
        (["--gpus-per-trial", "1.5"], ["gpus_per_trial", "a fraction below 1 or a whole number", "auto; found 1.5"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_wrong_words_are_named_with_what_is_right(tmp_path: Path, flags: list[str], told: list[str]) -> None:
    message = refuse(tmp_path, *flags)
    for words in told:
        assert words in message


def test_a_name_that_is_taken_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    folder = tmp_path / "searches" / "mine"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text("{}")
    code, text = call(TINY, "tiny", "--storage", str(tmp_path), "--name", "mine")
    assert code == 2
    assert "A search named 'mine' exists already" in text
    assert len(text.splitlines()) == 1
    assert {path.name for path in folder.iterdir()} <= {"search.json", "lock"}
    assert (folder / "search.json").read_text() == "{}"


def test_bad_data_is_told_as_it_is(tmp_path: Path) -> None:
    def load_data(*_: Any) -> TinyData:
        raise DataError("a.root: expected [a tree], found 0 bytes. Copy it again.")

    message = refuse(tmp_path, workload=replace(TINY, load_data=load_data))
    assert message == "error: a.root: expected [a tree], found 0 bytes. Copy it again. "


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    message = refuse(tmp_path, "--tracking-uri", "http://127.0.0.1:9")
    assert time.monotonic() - started < 120
    assert "http://127.0.0.1:9 cannot be used" in message
    assert "--tracking-uri" in message


@pytest.mark.parametrize("uri", ["postgresql://u:hush@127.0.0.1:9/db", "nonsense://x", "./mlruns"])
def test_a_database_that_cannot_be_used_is_told(tmp_path: Path, uri: str) -> None:
    message = refuse(tmp_path, "--tracking-uri", uri)
    assert "cannot be used" in message
    assert "hush" not in message
    assert "http://./" not in message  # a path is no address


def test_a_storage_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = call(TINY, "tiny", "--storage", str(tmp_path / "file" / "results"))
    assert code == 2
    assert "Traceback" not in text
    assert str(tmp_path / "file") in text.replace("\n", "")


def test_a_leaderboard_file_that_cannot_be_written_is_told_before_the_first_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refuse(tmp_path, "--json", str(tmp_path / "file" / "board.json"))
    assert "--json" in message
    assert "cannot be written" in message


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_more_than_the_cluster_has_is_refused(tmp_path: Path) -> None:
    message = refuse(tmp_path, "--cpus-per-trial", "64")
    assert "asks for 64 CPUs and 0 GPUs on one node, and the nodes have 2 CPUs and 0 GPUs" in message
    assert "--cpus-per-trial" in message


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from finished import call\nfrom tiny import make_tiny\n"
        "code, text = call(make_tiny(), 'tiny', '--address', '127.0.0.1:9', '--storage', sys.argv[2])\n"
        "print(text); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "No Ray cluster answers at 127.0.0.1:9" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_help_explains_every_flag_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # wider, tyro sets panels side by side
    for workload in WORKLOADS.values():
        code, text = call(TINY, workload.name, "--help")
        assert code == 0
        text = one_word(text)
        for settings in (Budget, Method, Site, workload.settings):
            for name, field in settings.model_fields.items():
                if isinstance(field.default, BaseModel):  # its own fields are flags
                    continue
                described = re.search(rf"--{name.replace('_', '-')}[ ,].*?\(default: .*?\)", text)
                assert described, f"--{name} is not in the help"
                assert len(re.findall(r"[a-z]+", described[0])) > 4, f"--{name} is not explained"


# ---------------------------------------------------------------- commands that work


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_relative_storage_works_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 17."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, text = call(
        TINY, "tiny", "--storage", "../here", "--name", "relative", "--trials", "0", "--epochs", "1",
        "--json", "board.json",
    )  # fmt: skip
    assert code == 0
    done = Finished(code, text, tmp_path / "here", "relative")
    assert done.board["rows"][0]["outcome"] == "complete"
    assert json.loads((tmp_path / "elsewhere" / "board.json").read_text()) == done.board
    assert str(tmp_path / "here" / "searches" / "relative") in text
    assert "report/value.csv" in done.files(done.children["good"])
    process = json.loads(done.artifact(done.children["good"], "report/process.json"))
    assert Path(process["cwd"]) != done.folder
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["board.json"]


@pytest.mark.slow
def test_nothing_complete_exits_with_1(run_tiny: Callable[..., Finished]) -> None:
    done = run_tiny("all-diverge", "--trials", "0", presets={"a": {"x": 0.1, "y": 0.0, "diverge_epoch": 1}})
    assert done.code == 1
    assert done.board["outcomes"] == {"diverged": 1}
    assert [row["kind"] for row in done.board["rows"]] == ["naive", "preset"]
    assert done.parent.info.status == "FINISHED"
    assert "comparison/labels.txt" not in done.files(done.parent)
    assert "1 diverged" in done.text


@pytest.mark.slow
def test_the_time_limit_ends_running_trials_in_good_order(run_tiny: Callable[..., Finished]) -> None:
    slow = {"y": 0.0, "epoch_seconds": 0.2}
    started = time.monotonic()
    done = run_tiny(
        "in-time", "--trials", "4", "--epochs", "1000", "--time-limit", "30s", "--scheduler", "none",
        "--set", "epoch_seconds=0.2", presets={"slow": {"x": 0.3, **slow}},
    )  # fmt: skip
    assert time.monotonic() - started < 200
    assert done.code == 1  # no trial completed
    assert set(done.board["outcomes"]) == {"stopped_early"}
    for label, run in done.children.items():
        assert run.info.status == "KILLED"
        assert run.data.tags["reason"] == "time limit"
        epochs = done.rows[label]["epoch"]
        assert [step for step, _ in done.curve(label, "loss")] == list(range(1, epochs + 1))
    assert not [trial for trial in done.study.get_trials() if not trial.state.is_finished()]
    assert done.parent.data.params["time_limit"] == "30s"
    assert done.board["saved_hours"] == 0  # a limit saves nothing, it only ends


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_maximised_objectives_are_maximised_everywhere(storage: Path) -> None:
    upside_down = replace(make_tiny(low={"x": 0.3, "y": 0.0}, high={"x": -0.9}), objectives={"loss": "max"})
    done = run_search(upside_down, storage, "upwards", "--trials", "0", "--scheduler", "asha", "--epochs", "2")
    assert done.study.direction.name == "MAXIMIZE"
    assert [row["label"] for row in done.board["rows"]] == ["high", "guess", "low"]
    assert done.rows["low"]["rank"] == 2
    assert done.rows["high"]["best_epoch"] == 1  # 1 / epoch falls
    assert done.study.best_trial.user_attrs["preset"] == "high"


def test_numbers_that_were_said_reach_the_trials(run_tiny: Callable[..., Finished]) -> None:
    done = run_tiny(
        "as-said", "--trials", "2", "--epochs", "2", "--presets", "none", "--seed", "40", "--sampler", "random",
        "--scheduler", "none", "--set", "slope=0.5", "x=0.25", "--also", "optional",
        presets={"unused": {"x": 0.0}},
    )  # fmt: skip
    assert done.code == 0
    assert set(done.children) == {"trial-000", "trial-001"}
    for row in done.board["rows"]:
        if row["kind"] == "trial":
            hyperparameters = row["hyperparameters"]
            assert (hyperparameters["x"], hyperparameters["slope"], hyperparameters["epochs"]) == (0.25, 0.5, 2)
            assert hyperparameters["seed"] in (40, 41)
            y, optional = hyperparameters["y"], hyperparameters["optional"]
            assert row["value"] == pytest.approx(0.05**2 + y**2 + 1 / 2 + 0.5 * 2)
            assert 1 <= optional <= 5
    for trial in done.study.get_trials():
        assert set(trial.params) == {"y", "optional"}  # what is held never enters the study


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_figures_that_cannot_be_drawn_cost_neither_trial_nor_search(storage: Path) -> None:
    def compare(*_: Any) -> None:
        raise ValueError("no such font")

    presets = {"drawn": {"x": 0.3, "y": 0.0}, "undrawn": {"x": 0.3, "y": 0.0, "report_fails": True}}
    workload = replace(make_tiny(**presets), compare=compare)
    done = run_search(workload, storage, "undrawn", "--trials", "0", "--epochs", "1")
    assert done.code == 0
    assert {done.rows[label]["rank"] for label in presets} == {1, 2}
    assert "no such font" in done.text
    assert "Traceback" not in done.text
    assert done.children["undrawn"].info.status == "FINISHED"
    assert done.parent.info.status == "FINISHED"
    assert {"report/error.txt", "checkpoint/best.pt"} <= set(done.files(done.children["undrawn"]))
