"""Laws of the one trainable, driven without Tune: what a step says, what a checkpoint holds, what diverging means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinyConfig, TinyData, TinyTraining, expected_loss

from search.tuning.autosize.share import fraction_of
from trainables.base.checkpoint import BEST_FILE, LAST_FILE, REPORT_FOLDER, STATE_FILE
from trainables.base.objectives import Goal, Mode
from trainables.base.tune_adapter import EpochTrainable, Machine
from trainables.runtime.gpu_memory import GpuPart, keep_to


class Direct(EpochTrainable):
    """The trainable as with_parameters would bind it."""

    mode: Mode = "min"

    machine: ClassVar[Machine] = Machine(threads=1, device="cpu")

    def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        super().setup(
            config, training=TinyTraining, training_config=TinyConfig, data=TinyData(),
            goal=Goal({"loss": self.mode}), machine=self.machine,
        )  # fmt: skip


class OnAPart(Direct):
    machine: ClassVar[Machine] = Machine(threads=1, device="cuda", gpu_part=GpuPart(0.25, 2**30))


class DirectMax(Direct):
    mode = "max"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trainable(kind: type[Direct] = Direct, **hyperparameters: Any) -> Direct:
    return kind({"hyperparameters": {"epochs": 3, "x": 0.1, **hyperparameters}})


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_step_is_an_epoch_and_its_result_is_nested() -> None:
    one = trainable()
    results = [one.step() for _ in range(3)]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["outcome"] for result in results] == ["running", "running", "complete"]
    assert [result["done"] for result in results] == [False, False, True]
    assert [result["progress_percent"] for result in results] == pytest.approx([100 / 3, 200 / 3, 100])
    for result in results:
        assert result["metrics"]["loss"] == expected_loss(TinyConfig(x=0.1), result["epoch"])
        assert "loss" not in result
        assert result["host"]
        assert result["device"]
        assert result["metrics"]["train_seconds"] + result["metrics"]["validate_seconds"] <= result["epoch_seconds"]


@pytest.mark.parametrize(("kind", "slope", "best"), [(Direct, 0.0, 3), (Direct, 9.0, 1), (DirectMax, 0.0, 1)])
def test_the_best_epoch_is_that_of_the_objective(kind: type[Direct], slope: float, best: int, tmp_path: Path) -> None:
    one = trainable(kind, slope=slope)
    results = [one.step() for _ in range(3)]
    assert results[-1]["best"] == {"epoch": best, "value": results[best - 1]["metrics"]["loss"]}
    one.save_checkpoint(str(tmp_path))
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["best"]["epoch"] == best


@pytest.mark.parametrize("how", [{"diverge_epoch": 2}, {"nan_epoch": 2}])
def test_a_diverged_epoch_carries_a_reason_and_no_number(how: dict[str, int]) -> None:
    """Pitfalls 1 and 2."""
    one = trainable(**how)
    one.step()
    result = one.step()
    assert (result["outcome"], result["done"], result["epoch"]) == ("diverged", True, 2)
    assert result["reason"] == "not_finite"
    assert not math.isfinite(result["evidence"]["loss"])
    assert "metrics" not in result
    assert "best" not in result


@pytest.mark.parametrize("how", [{"diverge_epoch": 3}, {"nan_epoch": 3}])
def test_a_run_that_diverges_in_its_last_epoch_has_no_report(how: dict[str, int], tmp_path: Path) -> None:
    one = trainable(**how)
    assert [one.step()["outcome"] for _ in range(3)] == ["running", "running", "diverged"]
    one.save_checkpoint(str(tmp_path))
    assert files(tmp_path) == {STATE_FILE, BEST_FILE}


def test_a_checkpoint_on_the_way_has_the_state_and_the_best_and_the_last_all(tmp_path: Path) -> None:
    one = trainable()
    one.step()
    (tmp_path / "first").mkdir()
    one.save_checkpoint(str(tmp_path / "first"))
    assert files(tmp_path / "first") == {STATE_FILE, BEST_FILE}
    one.step(), one.step()
    (tmp_path / "last").mkdir()
    one.save_checkpoint(str(tmp_path / "last"))
    assert {STATE_FILE, BEST_FILE, LAST_FILE, f"{REPORT_FOLDER}/value.csv"} <= files(tmp_path / "last")


def test_figures_that_cannot_be_drawn_do_not_cost_the_model(tmp_path: Path) -> None:
    one = trainable(report_fails=True)
    for _ in range(3):
        one.step()
    one.save_checkpoint(str(tmp_path))
    assert {STATE_FILE, BEST_FILE, LAST_FILE, f"{REPORT_FOLDER}/error.txt"} == files(tmp_path)
    assert "cannot draw" in (tmp_path / REPORT_FOLDER / "error.txt").read_text()


def test_a_trial_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    first = trainable(slope=9.0)
    first.step()
    first.save_checkpoint(str(tmp_path))
    for second in (
        trainable(slope=9.0),
        Direct({"hyperparameters": {"epochs": 3, "slope": 9.0}, "continue_from": str(tmp_path)}),
    ):
        second.load_checkpoint(str(tmp_path))
        result = second.step()
        assert (result["epoch"], result["metrics"]["resumed_at"], result["best"]["epoch"]) == (2, 1, 1)


def test_of_a_trial_whose_end_was_not_recorded_the_last_epoch_is_repeated(tmp_path: Path) -> None:
    """After its last checkpoint there is nothing to train, and an epoch too many would have another value."""
    first = trainable(slope=9.0)
    for epoch in (1, 2, 3):
        last = first.step()
        (tmp_path / f"checkpoint_{epoch}").mkdir()
        first.save_checkpoint(str(tmp_path / f"checkpoint_{epoch}"))
    again = Direct(
        {"hyperparameters": {"epochs": 3, "x": 0.1, "slope": 9.0}, "continue_from": str(tmp_path / "checkpoint_3")}
    ).step()
    assert (again["epoch"], again["outcome"], again["metrics"]["resumed_at"]) == (3, "complete", 2)
    assert again["metrics"]["loss"] == last["metrics"]["loss"]


def test_a_reused_actor_is_as_new() -> None:
    """Pitfall 29."""
    one = trainable(nan_epoch=1)
    one.step()
    assert one.reset_config({"hyperparameters": {"epochs": 2, "x": 0.2}})
    results = [one.step() for _ in range(2)]
    assert [result["outcome"] for result in results] == ["running", "complete"]
    assert [result["metrics"]["epochs_here"] for result in results] == [1, 2]
    assert results[-1]["best"]["epoch"] == 2


def test_an_unknown_hyperparameter_fails_at_once() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        trainable(depht=3)


@given(st.integers(2, 40), st.integers(2 * 2**30, 200 * 2**30), st.integers(0, 2**30))
def test_parts_of_a_gpu_never_take_more_than_it_has(trials: int, total: int, context: int) -> None:
    """Pitfall 19: each trial's tensors and what CUDA takes in its process, all together."""
    allowed = GpuPart(fraction_of(trials), context).allowed(total)
    assert 0 <= allowed < 1
    if allowed:
        assert trials * (allowed * total + context) <= total * (1 + 1e-9)


def test_a_trial_that_is_alone_on_a_gpu_may_take_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: pytest.fail("is limited"))
    for fraction in (0, 1, 2):
        assert GpuPart(fraction).allowed(2**30) == 1
        keep_to(GpuPart(fraction), torch.device("cuda"))
    keep_to(GpuPart(0.5), torch.device("cpu"))


def test_a_trial_with_a_part_of_a_gpu_is_held_to_it_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, Any]] = []

    class HeldError(Exception):
        """No GPU is needed to see it."""

    def hold(fraction: float, device: Any) -> None:
        limits.append((fraction, device))
        raise HeldError

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", hold)
    with pytest.raises(HeldError):
        trainable(OnAPart)
    assert limits == [(0.25 - 1 / 80, torch.device("cuda"))]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_greedy_trial_fails_by_itself() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        keep_to(GpuPart(0.25), torch.device("cuda"))
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(total // 3, dtype=torch.uint8, device="cuda")
        torch.empty(total // 5, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_threads_are_those_of_the_share() -> None:
    """Pitfall 32."""
    torch.set_num_threads(2)
    assert trainable().step()["metrics"]["threads"] == 1
