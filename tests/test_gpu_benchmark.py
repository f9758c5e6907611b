"""The benchmark of a GPU machine, as far as a machine without one can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.checks import CheckError, checks, is_repeatable, run, subjects
from benchmarks.gpu.rates import photons, update_rate

CPU = torch.device("cpu")


@pytest.fixture
def only_pt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the quick checks, because those of zdc are run by its own tests too."""
    some = {name: check for name, check in checks(CPU).items() if name.startswith("pt-dphi")}
    monkeypatch.setattr(command, "checks", lambda device: some)
    return list(some)


def run_small(out: Path, minutes: float = 5) -> dict[str, Any]:
    command.main(out, minutes, "cpu", seconds=0.1, sizes=0, events=500, trials=0)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


@pytest.mark.slow
@pytest.mark.usefixtures("only_pt")
def test_one_command_checks_and_measures_and_writes_what_it_saw(tmp_path: Path) -> None:
    found = run_small(tmp_path / "gpu.json")
    assert found["device"] == "cpu"
    assert {name: check["works"] for name, check in found["checks"].items()} == {
        "pt-dphi: repeatable": True, "pt-dphi: resumes": True, "pt-dphi: sized": True,
    }  # fmt: skip
    assert found["epoch"]["fp32"]["events"] == 500
    assert not found["left_out"]


def test_what_the_minutes_do_not_allow_is_named(tmp_path: Path, only_pt: list[str]) -> None:
    found = run_small(tmp_path / "gpu.json", minutes=0.0)
    assert found["left_out"] == ["checks: " + name for name in only_pt] + ["epoch: fp32"]
    assert not found["checks"]


def test_a_check_that_fails_and_a_step_that_breaks_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> str:
        raise CheckError("two trainings of one seed differ")

    def breaks(*_: object) -> dict[str, object]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(command, "checks", lambda device: {"fails": fails, "works": lambda: "as it should"})
    monkeypatch.setattr(command, "epoch_seconds", breaks)
    with pytest.raises(SystemExit, match="1 of 2 checks failed"):
        run_small(tmp_path / "gpu.json")
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["checks"]["fails"]["seen"] == "CheckError: two trainings of one seed differ"
    assert content["checks"]["works"]["works"]
    assert content["epoch"]["fp32"] == {"error": "RuntimeError: out of memory"}
    assert "FAILS: CheckError" in capsys.readouterr().out


def test_a_training_that_does_not_repeat_itself_is_found() -> None:
    subject = subjects()["pt-dphi"]

    class Drifts(subject.training):  # type: ignore[misc, name-defined]
        def train_epoch(self) -> dict[str, float]:
            with torch.no_grad():
                next(self.network.parameters()).add_(torch.rand(()) * 1e-6)
            return {}

    subject = type(subject)(Drifts, subject.config, subject.data)
    assert run(lambda: is_repeatable(subject, CPU))["seen"].startswith("CheckError: two trainings of one seed differ")


@pytest.mark.parametrize("gan", [False, True])
def test_a_rate_counts_the_events_of_updates(gan: bool) -> None:
    rate = update_rate(photons(600), CPU, width=4, batch=64, gan=gan, mode="fp32", seconds=0.05)
    assert rate["events_per_s"] > 0
    assert rate["peak_mib"] is None


def test_more_events_than_are_simulated_come_again() -> None:
    data = photons(1000)
    assert len(data.train) == 1000


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sees no GPU here\. --device cpu"):
        command.main(tmp_path / "gpu.json")
    assert not list(tmp_path.iterdir())
