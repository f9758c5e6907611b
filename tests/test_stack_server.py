"""The server of stacks, driven without Ray: trials that join, wait for each other, fail and leave."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from broken import wait_until
from specs import spec_of
from tiny import TinyConfig, TinyData, TinyStack, TinyTraining, expected_loss, make_tiny

from search.config.settings import Budget, Method, Site
from search.errors import UsageError
from search.tuning.resources import Share
from search.tuning.stack_choice import refuse_stack, stacked_share
from search.tuning.stack_groups import TrialGoneError
from search.tuning.stack_server import StackServer
from search.workloads import WORKLOADS
from trainables.base.errors import TrainingDiverged
from trainables.base.objectives import Goal
from trainables.base.trial_run import TrialKind, TrialRun
from trainables.pt.config import PtDphiConfig
from trainables.pt.simulate import simulate_data
from trainables.pt.train import PtDphiTraining
from trainables.runtime.gpu_memory import GpuPart

CPU = torch.device("cpu")


class CountedStack(TinyStack):
    """Tells of how many runs each epoch was."""

    def train_epoch(self, slots: Collection[int]) -> dict[int, dict[str, float] | TrainingDiverged]:
        together = {"together": float(len(slots))}
        ended = super().train_epoch(slots)
        return {slot: one if isinstance(one, TrainingDiverged) else one | together for slot, one in ended.items()}


class CountedTraining(TinyTraining):
    stack_type = CountedStack
    begun, gate = threading.Event(), threading.Event()  # those of a large growth tell that they train, and wait

    def train_epoch(self) -> dict[str, float]:
        if self.config.growth > 1:
            self.begun.set()
            assert self.gate.wait(60)
        return super().train_epoch()


TINY = TrialKind(CountedTraining, TinyConfig, TinyData(), Goal({"loss": "min"}))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """In which calls wait, as in those of an actor."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def server_of(kind: TrialKind = TINY, slots: int = 3) -> StackServer:
    return StackServer(kind, "cpu", 1, GpuPart(0.0), slots)


def steps(pool: ThreadPoolExecutor, server: StackServer, *trials: str) -> list[dict[str, Any]]:
    """One epoch of each, asked for at the same time."""
    asked: list[Future[dict[str, Any]]] = [pool.submit(server.step, trial) for trial in trials]
    return [one.result(60) for one in asked]


def join(server: StackServer, trial: str, **hyperparameters: Any) -> bool:
    return server.join(trial, {"epochs": 4, **hyperparameters})


def test_trials_of_one_shape_train_together_and_others_alone(threads: ThreadPoolExecutor) -> None:
    server = server_of(slots=4)
    for trial, shape in {"a": 1, "b": 1, "c": 2, "d": 5}.items():
        assert join(server, trial, optional=shape, x=0.1)
    for epoch in (1, 2):
        results = dict(zip("abcd", steps(threads, server, *"abcd"), strict=True))
        assert [one["epoch"] for one in results.values()] == [epoch] * 4
        losses = {one["metrics"]["loss"] for one in results.values()}
        assert losses == {expected_loss(TinyConfig(x=0.1, optional=shape), epoch) for shape in (1, 2, 5)}
        together = [one["metrics"].get("together") for one in results.values()]
        assert together[2:] == [1.0, None]
    assert server.usage()["epochs"] == 8


def test_trials_that_ask_at_the_same_time_are_one_program(threads: ThreadPoolExecutor) -> None:
    """The thread is busy with a trial alone when all of them ask."""
    server = server_of(slots=4)
    for trial in "abc":
        join(server, trial)
    join(server, "busy", optional=5, growth=2.0)
    before = threads.submit(server.step, "busy")
    assert CountedTraining.begun.wait(60)
    asked = [threads.submit(server.step, trial) for trial in "abc"]
    wait_until(lambda: server._queue.qsize() == 3, "all have asked")
    CountedTraining.gate.set()
    assert before.result(60)["epoch"] == 1
    assert {one.result(60)["metrics"]["together"] for one in asked} == {3.0}


def test_a_trial_that_asks_late_does_not_keep_the_others_waiting(threads: ThreadPoolExecutor) -> None:
    server = server_of()
    for trial in "abc":
        join(server, trial)
    for _ in range(3):
        assert steps(threads, server, "a", "b")[0]["outcome"] == "running"
    assert steps(threads, server, "c")[0]["epoch"] == 1
    assert 0 < server.usage()["slots"] <= 1


def test_there_is_room_for_as_many_trials_as_slots(threads: ThreadPoolExecutor) -> None:
    server = server_of(slots=2)
    assert [join(server, trial) for trial in "abc"] == [True, True, False]
    assert join(server, "a")  # again, after its process died
    assert server.join("c", {"epochs": 4}, "b")  # in place of one that has ended
    assert not join(server, "b")
    server.leave("a")
    assert join(server, "b")
    assert [one["epoch"] for one in steps(threads, server, "b", "c")] == [1, 1]
    with pytest.raises(TrialGoneError, match="trial a is gone"):
        server.step("a")


@pytest.mark.parametrize("how", [{"diverge_epoch": 2}, {"nan_epoch": 2}])
def test_a_trial_that_diverges_is_named_alone(threads: ThreadPoolExecutor, how: dict[str, int]) -> None:
    server = server_of()
    join(server, "bad", **how), join(server, "good"), join(server, "fine")
    steps(threads, server, "bad", "good", "fine")
    bad, *others = steps(threads, server, "bad", "good", "fine")
    assert (bad["outcome"], bad["epoch"], "metrics" in bad) == ("diverged", 2, False)
    assert [one["outcome"] for one in others] == ["running", "running"]


def test_an_error_ends_the_runs_whose_state_it_leaves_unknown_and_no_other(threads: ThreadPoolExecutor) -> None:
    server = server_of(slots=4)
    join(server, "bad", crash_epoch=1), join(server, "beside"), join(server, "other", optional=2)
    join(server, "alone", optional=5, crash_epoch=2)
    asked = {trial: threads.submit(server.step, trial) for trial in ("bad", "beside", "other", "alone")}
    assert {trial: type(one.exception(60)).__name__ for trial, one in asked.items() if trial not in ("beside",)} == {
        "bad": "RuntimeError",
        "other": "NoneType",
        "alone": "NoneType",
    }
    with pytest.raises(TrialGoneError):
        server.step("bad")
    asked = {trial: threads.submit(server.step, trial) for trial in ("other", "alone")}
    assert [type(one.exception(60)).__name__ for one in asked.values()] == ["NoneType", "RuntimeError"]
    assert steps(threads, server, "other")[0]["epoch"] == 3


def test_a_trial_whose_hyperparameters_are_refused_fails_itself() -> None:
    server = server_of()
    with pytest.raises(ValueError, match="epochs"):
        server.join("a", {"epochs": -1})
    assert [join(server, trial) for trial in "abc"] == [True] * 3


def test_a_trial_that_joins_again_while_it_waits_leaves_nobody_waiting(threads: ThreadPoolExecutor) -> None:
    """Its process was killed, and Tune has begun another one."""
    server = server_of()
    join(server, "a"), join(server, "b", epoch_seconds=0.3)
    first = threads.submit(server.step, "b")
    before = threads.submit(server.step, "a")
    join(server, "a")
    assert steps(threads, server, "a")[0]["epoch"] == 1
    assert first.result(60)["epoch"] == 1
    assert before.cancelled() or before.exception(60) is not None or before.result()["epoch"] == 1


# ---------------------------------------------------------------- real stacks


PT = TrialKind(PtDphiTraining, PtDphiConfig, simulate_data(600, 1), Goal({"resolution": "min"}))
POINTS: list[dict[str, Any]] = [
    {"width": 12, "depth": 2, "batch_size": 64, "epochs": 4, "seed": seed, "learning_rate": rate, "dropout": 0.1}
    for seed, rate in enumerate((1e-3, 4e-3, 1e30))
]


def numbers(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result["metrics"].items() if not name.endswith("seconds")}


@pytest.mark.usefixtures("one_thread")
def test_results_and_checkpoints_of_a_stacked_trial_are_those_of_one_alone(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """A checkpoint from a stack goes on alone, and one from alone in a stack."""
    alone = [TrialRun(PT, point, CPU) for point in POINTS[:2]]
    server = server_of(PT)
    for number, point in enumerate(POINTS):
        server.join(str(number), point)
    for _ in range(2):
        *stacked, bad = steps(threads, server, "0", "1", "2")[:3]
        expected = [run.step() for run in alone]
        for one, other in zip(stacked, expected, strict=True):
            assert one.keys() == other.keys()
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-3, abs=1e-4)
        if bad["outcome"] == "diverged":
            server.leave("2")
            break
    alone = [TrialRun(PT, point, CPU) for point in POINTS[:2]]
    for run, number in zip(alone, "01", strict=True):
        folder = tmp_path / number
        folder.mkdir()
        for name, content in server.save(number).items():
            Path(folder, name).write_bytes(content)
        run.load_checkpoint(folder)
    second = server_of(PT)
    for number, run in enumerate(alone):
        (tmp_path / f"back{number}").mkdir()
        run.save_checkpoint(tmp_path / f"back{number}")
        second.join(str(number), POINTS[number])
        files = {file.name: file.read_bytes() for file in (tmp_path / f"back{number}").iterdir()}
        assert second.load(str(number), files) is False
    for one, other in zip(steps(threads, second, "0", "1"), [run.step() for run in alone], strict=True):
        assert one["epoch"] == other["epoch"] > 1
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-3, abs=1e-4)


def test_the_last_checkpoint_has_the_report(threads: ThreadPoolExecutor) -> None:
    server = server_of()
    join(server, "a", epochs=1)
    assert server.save("a").keys() == {"state.pt", "best.pt"}
    assert steps(threads, server, "a")[0]["outcome"] == "complete"
    assert {"state.pt", "best.pt", "last.pt", "report/value.csv"} <= server.save("a").keys()


# ---------------------------------------------------------------- what is asked for


def share_of(trials: int, slots: int, cores: int) -> Share:
    return Share(1, 0, min(cores, trials)).stacked(slots, trials)


def test_cores_are_filled_before_slots() -> None:
    assert share_of(40, 8, 2) == Share(1, 0, 16, slots=8)
    assert share_of(5, 8, 2) == Share(1, 0, 5, slots=3)
    assert share_of(5, 8, 2).servers == 2
    assert share_of(2, 8, 2) == Share(1, 0, 2)
    assert share_of(1, 8, 2).servers == 0


def test_a_server_and_its_trials_take_no_more_than_its_share() -> None:
    share = share_of(40, 8, 2)
    assert share.server_cpus + share.slots * share.bundle["CPU"] == pytest.approx(1.0)


def test_stacks_are_refused_with_a_word_where_there_can_be_none() -> None:
    zdc = spec_of(WORKLOADS["zdc"], site=Site(stack="8"))
    with pytest.raises(UsageError, match=r"--stack 8: the training of zdc cannot be stacked"):
        refuse_stack(zdc)
    changing = spec_of(make_tiny(), site=Site(stack="8"), method=Method(scheduler="pbt"))
    with pytest.raises(UsageError, match=r"--stack 8: population based training takes turns"):
        refuse_stack(changing)
    for word in ("off", "auto"):
        refuse_stack(spec_of(WORKLOADS["zdc"], site=Site(stack=word)))


@pytest.mark.parametrize(
    ("workload", "trials", "said"),
    [("zdc", "40", "the training of zdc cannot be stacked"), ("pt-dphi", "3", "fewer than 16 trials")],
)
def test_auto_says_why_there_is_none(workload: str, trials: str, said: str) -> None:
    lines: list[object] = []
    spec = spec_of(WORKLOADS[workload], site=Site(stack="auto"), budget=Budget(trials=trials))
    assert stacked_share(spec, None, Share(1, 0, 2), lines.append) == Share(1, 0, 2)
    assert [str(line).startswith("stack    off: ") and said in str(line) for line in lines] == [True]


@pytest.mark.parametrize("word", ["1", "65", "many", "-2"])
def test_other_numbers_of_slots_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected auto, off, or a number from 2 to 64"):
        Site(stack=word)


def test_what_tune_holds_of_a_stacked_trial_needs_no_torch() -> None:
    """Its processes are many, and start while a search waits."""
    script = "import sys, search.tuning.stack_proxy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0
