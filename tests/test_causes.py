"""Laws of failures: their cause is recognised and named, out of memory is infeasible, and a hopeless search ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from finished import Finished, run_search
from optuna.trial import TrialState
from specs import spec_with
from tiny import TinyTraining, make_tiny, suggest

from search.config.space import Space
from search.storage.trial_record import Outcome, TrialRecord
from search.tuning.failures import Cause, FailureWatch, cause_of, reason_of
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.samplers import make_sampler
from search.tuning.study import open_study
from trainables.base.objectives import Goal

# As Ray 2.60 and torch 2.13 wrote them; [...]: shortened.
CUDA = """\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=32408, ip=192.0.2.2, repr=<search.A object>)
  File "/site-packages/ray/tune/trainable/trainable.py", line 331, in train
    result = self.step()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of \
which 10.00 MiB is free. Including non-PyTorch memory, this process has 79.1 GiB memory in use.
See documentation for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html)"""
CUBLAS = "Traceback\n  File x\nRuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"
HOST = """ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on \
the node (IP: 192.0.2.2, ID: 9109) was 3.92GB used / 23.54GB limit (0.166665)
OOM kill reason: Memory usage 4195803136B exceeded threshold of 4195644416B (16.6% of 25276514304B limit)
Object store memory usage: [- objects spillable: 0
Top 10 memory users: PID	MEM(GB)	COMMAND
1653	0.69	ray::A.big
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io [...]"""
CPU_ALLOCATOR = """ray::A.host() (pid=32407)
    def host(self): torch.zeros(10**14)
RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"""
NUMPY = "  File x\nnumpy._core._exceptions._ArrayMemoryError: Unable to allocate 72.8 TiB for an array with shape (9,)"
NODE = """ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
	class_name: A
The actor died because its node has died. Node Id: 9074b80bd457e8d5dffd5456a2adef37d78d154832c70dd2f3a48001
	the actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""
WORKER = """ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
	class_name: A
	pid: 32543
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly"""
SETUP = """ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task, \
ray::A.__init__()
  File "/x.py", line 8, in setup
    raise MemoryError  # only a source line
ValueError: Extra inputs are not permitted"""
ERROR = "Traceback (most recent call last):\n  File x\nRuntimeError: the disk of this node is on fire"

TEXTS: dict[str, tuple[str, Cause]] = {
    "cuda": (CUDA, "out_of_gpu_memory"),
    "cublas": (CUBLAS, "out_of_gpu_memory"),
    "host": (HOST, "out_of_memory"),
    "cpu allocator": (CPU_ALLOCATOR, "out_of_memory"),
    "numpy": (NUMPY, "out_of_memory"),
    "python": ("  File x\nMemoryError", "out_of_memory"),
    "node": (NODE, "node_died"),
    "worker": (WORKER, "worker_died"),
    "setup": (SETUP, "error"),
    "error": (ERROR, "error"),
    "nothing": ("", "error"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_cause_is_recognised_in_the_whole_text_and_in_its_reason(name: str) -> None:
    text, cause = TEXTS[name]
    assert cause_of(text) == cause
    assert cause_of(reason_of(text)) == cause


@pytest.mark.parametrize("name", TEXTS)
def test_a_reason_is_one_short_line_that_names_its_cause(name: str) -> None:
    text, cause = TEXTS[name]
    reason = reason_of(text)
    assert "\n" not in reason
    assert 0 < len(reason) <= 400
    words = {"out_of_gpu_memory": "out of GPU memory"}.get(cause, cause.replace("_", " "))
    assert cause == "error" or reason.startswith(words)
    assert reason_of(reason) == reason


def test_every_cause_is_met() -> None:
    assert {cause for _, cause in TEXTS.values()} == set(get_args(Cause))


def test_the_last_attempt_counts_and_its_exception_is_the_reason() -> None:
    text = f"Failure # 1 (occurred at 2026-11-21)\n{CUDA}\nFailure # 2 (occurred at 2026-11-21)\n{ERROR}\n\n"
    assert cause_of(text) == "error"
    assert reason_of(text) == "RuntimeError: the disk of this node is on fire"
    assert reason_of("") == "unknown"


# ---------------------------------------------------------------- what the sampler learns

SPACE = Space(suggest=suggest, fixed={}, preset_fixed={}, presets={})


def live(searcher: OptunaSearcher, outcome: Callable[[float], Outcome], error: str = CUDA) -> float:
    """One trial; returns its x."""
    asked: Any = searcher.suggest("any")
    record = TrialRecord("any", asked["number"], None, asked["hyperparameters"], epochs=1, started=0.0)
    x = float(record.hyperparameters["x"])
    record.outcome = outcome(x)
    if record.outcome == "complete":
        record.epoch, record.metrics = 1, {"loss": -x}
        searcher.epoch_ended(record)
    else:
        record.reason = reason_of(error)
    searcher.trial_ended(record)
    return x


def searcher_of(folder: Path, name: str, trials: int = 60) -> OptunaSearcher:
    study = open_study(folder, "a-study", ["min"], make_sampler(name, 5))
    return OptunaSearcher(study, spec_with(SPACE, Goal({"loss": "min"}), trials=trials))


def test_out_of_memory_is_infeasible_and_never_a_number(tmp_path: Path) -> None:
    live(searcher_of(tmp_path, "random"), lambda x: "failed")
    (trial,) = open_study(tmp_path, "a-study", ["min"], make_sampler("random", 5)).get_trials()
    assert (trial.state, trial.value) == (TrialState.PRUNED, None)
    assert trial.constraints == {"memory": 1.0}
    assert trial.user_attrs["outcome"] == "failed"
    assert trial.user_attrs["reason"].startswith("out of GPU memory")


def test_tpe_keeps_away_from_where_the_memory_ran_out(tmp_path: Path) -> None:
    """The loss falls towards x = 1, but above 0.5 no trial fits; told as FAIL, TPE would go there again and again."""
    beyond = {}
    for name, text in {"memory": CUDA, "error": ERROR}.items():
        (tmp_path / name).mkdir()
        searcher = searcher_of(tmp_path / name, "tpe")
        asked = [live(searcher, lambda x: "failed" if x > 0.5 else "complete", text) for _ in range(60)]
        beyond[name] = sum(x > 0.5 for x in asked[20:])
    assert beyond["memory"] < beyond["error"] / 2


@pytest.mark.parametrize("name", ["gp", "cmaes", "qmc", "random"])
def test_other_samplers_live_with_it(tmp_path: Path, name: str) -> None:
    searcher = searcher_of(tmp_path, name, trials=16)
    for _ in range(16):
        live(searcher, lambda x: "failed" if x > 0 else "complete")


# ---------------------------------------------------------------- a search in which everything fails


class StopController:
    reason = ""

    def request_stop(self, reason: str) -> None:
        self.reason = self.reason or reason


class Bench:
    """Trials that end one after the other."""

    def __init__(self, most: int = 3, known: tuple[TrialRecord, ...] = ()) -> None:
        self.stop_controller, self._number = StopController(), 0
        self.watch = FailureWatch(self.stop_controller, most, known)

    def begin(self, epoch: int = 0) -> TrialRecord:
        self._number += 1
        record = TrialRecord("id", self._number, None, {}, epochs=9, started=0.0, epoch=epoch)
        self.watch.trial_started(record)
        return record

    def end(self, outcome: Outcome, reason: str = "", record: TrialRecord | None = None) -> TrialRecord:
        record = record or self.begin()
        record.outcome, record.reason = outcome, reason
        self.watch.trial_ended(record)
        return record


def test_a_search_ends_when_so_many_failed_and_nothing_works() -> None:
    bench = Bench()
    bench.end("failed", "OSError: /data/7.root")
    bench.end("failed", "OSError: /data/81.root")
    assert bench.stop_controller.reason == ""
    bench.end("failed", "OSError: /data/9.root")
    assert bench.stop_controller.reason == "3 of 3 trials failed, all with: OSError: /data/7.root"


def test_the_most_frequent_cause_is_told() -> None:
    bench = Bench()
    for reason in ("ValueError: a", "KeyError: b", "KeyError: b"):
        bench.end("failed", reason)
    assert bench.stop_controller.reason == "3 of 3 trials failed, 2 of them with: KeyError: b"


@pytest.mark.parametrize("outcome", ["complete", "stopped_early"])
def test_one_trial_that_works_is_enough(outcome: Outcome) -> None:
    bench = Bench()
    bench.end(outcome)
    for _ in range(9):
        bench.end("failed", "x")
    assert bench.stop_controller.reason == ""


def test_diverged_trials_are_no_failures_and_no_sign_that_anything_works() -> None:
    bench = Bench()
    for _ in range(4):
        bench.end("diverged", "not_finite")
    assert bench.stop_controller.reason == ""
    for _ in range(3):
        bench.end("failed", "x")
    assert bench.stop_controller.reason == "3 of 7 trials failed, all with: x"


def test_a_trial_that_gets_further_than_all_that_failed_is_waited_for() -> None:
    bench = Bench()
    hope = bench.begin(epoch=2)
    for _ in range(5):
        bench.end("failed", "x")
    assert bench.stop_controller.reason == ""
    bench.end("failed", "x", hope)
    assert bench.stop_controller.reason.startswith("6 of 6")


def test_failures_of_an_earlier_process_do_not_count_but_what_worked_does() -> None:
    failed = [Bench().end("failed", "x") for _ in range(5)]
    bench = Bench(known=tuple(failed))
    bench.end("failed", "x")
    assert bench.stop_controller.reason == ""
    bench = Bench(known=(Bench().end("complete"),))
    for _ in range(5):
        bench.end("failed", "x")
    assert bench.stop_controller.reason == ""


def test_zero_never_ends_a_search() -> None:
    bench = Bench(most=0)
    for _ in range(20):
        bench.end("failed", "x")
    assert bench.stop_controller.reason == ""


# ---------------------------------------------------------------- real searches


class Greedy(TinyTraining):
    """Asks for more memory than there is where x is large."""

    def train_epoch(self) -> dict[str, float]:
        if self.config.x > 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().train_epoch()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_trial_out_of_memory_is_retried_named_and_infeasible(storage: Path) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workload = replace(make_tiny(small={"x": 0.1, "y": 0.0}, large={"x": 0.9, "y": 0.0}), training=Greedy)
    done = run_search(workload, storage, "greedy", "--trials", "0", "--presets", "all", "--epochs", "3")
    assert done.code == 0, done.text
    assert done.rows["large"]["outcome"] == "failed"
    assert done.children["large"].data.tags["reason"].startswith("out of GPU memory: torch.OutOfMemoryError")
    assert done.children["large"].data.tags["attempts"] == "2"
    assert done.trials["large"].state == TrialState.PRUNED
    assert done.trials["large"].constraints == {"memory": 1.0}
    assert done.study.best_trial.number == done.trials["small"].number


@pytest.mark.slow
def test_a_search_in_which_everything_fails_ends_early_with_the_cause(run_tiny: Callable[..., Finished]) -> None:
    done = run_tiny(
        "hopeless", "--trials", "20", "--epochs", "3", "--scheduler", "none", "--set", "crash_epoch=1",
        "--max-failures", "3", "--retries", "0",
    )  # fmt: skip
    assert done.code == 1
    assert len(done.trials) < 12
    assert "trials failed, all with: RuntimeError: the disk of this node is on fire" in done.text
    assert all(trial.state.is_finished() for trial in done.study.get_trials())


def test_a_reason_holds_no_password() -> None:
    told = reason_of("Traceback\n  File x\nOSError: postgresql://me:hun/ter2@host/db refused")
    assert told == "OSError: postgresql://host/db refused"
