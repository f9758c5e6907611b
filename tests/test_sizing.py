"""Laws of ``auto``: never more trials than memory allows, at least one, and nothing measured is no reason to stop."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from broken import wait_until
from finished import Finished, run_search
from hypothesis import given
from hypothesis import strategies as st
from specs import spec_of
from tiny import TinyConfig, TinyData, TinyTraining, make_tiny

import search.tuning.autosize.resolve
from search.config.settings import Budget, Method, Site
from search.config.spec import SearchSpec
from search.errors import ClusterError
from search.tuning.autosize.benchmark import Measurement, run_benchmark
from search.tuning.autosize.monitor import ResourceMonitor, find_driver, private_bytes
from search.tuning.autosize.placement import BenchmarkError, run_on_cluster
from search.tuning.autosize.share import best_threads, fraction_of, on_cpus, on_gpus, with_headroom
from search.tuning.autosize.worst_case import describe_sizes, largest_point
from search.tuning.resources import Share, share_of
from trainables.zdc.config import ZDCConfig
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import ZDCTraining

GB = 10**9
ROOT = Path(__file__).parents[1]


# --- arithmetic


def measured(**result: Any) -> Measurement:
    """Of a GPU of 80 GB, unless given otherwise."""
    of_gpu = {"gpu_memory": 2 * GB, "gpu_context": GB // 2, "gpu_free": 80 * GB, "busy": 0.31}
    return Measurement(**{"device": "H100", "seconds": 12.0, "memory": GB, "rates": {1: 100.0}, **of_gpu, **result})


def node(cpus: float, gpus: float = 0, memory_gb: float = 1000) -> dict[str, float]:
    result = {"CPU": cpus, "GPU": gpus, "memory": memory_gb * GB}
    return {kind: amount for kind, amount in result.items() if amount}


nodes_with_gpus = st.lists(
    st.builds(node, st.integers(1, 128), st.integers(1, 8), st.floats(20, 2000)), min_size=1, max_size=3
)
nodes_without = st.lists(st.builds(node, st.integers(1, 128), st.just(0), st.floats(0.1, 200)), min_size=1, max_size=4)


@given(st.integers(1, 100))
def test_ray_fits_a_fraction_as_often_as_it_is_meant(trials: int) -> None:
    fraction = fraction_of(trials)
    assert fraction == round(fraction, 4)
    assert trials * round(fraction * 10_000) <= 10_000 < (trials + 1) * round(fraction * 10_000)


@given(
    st.integers(1, 80 * GB), st.integers(GB, 200 * GB), st.floats(0, 1) | st.none(), nodes_with_gpus,
    st.sampled_from([0.5, 1, 2]),
)  # fmt: skip
def test_never_more_trials_on_a_gpu_than_its_memory_allows_and_at_least_one(
    peak: int, total: int, busy: float | None, nodes: list[dict[str, float]], cpus: float
) -> None:
    result = measured(gpu_memory=peak, gpu_free=total, busy=busy)
    if peak > total:
        with pytest.raises(ClusterError, match=r"Not one trial fits: .* took .* and the smallest GPU has"):
            on_gpus(result, nodes, cpus)
        return
    proposal = on_gpus(result, nodes, cpus)
    trials = math.floor(1 / proposal.gpus)
    assert 1 <= trials <= 16
    assert trials * proposal.gpus <= 1
    assert trials == 1 or 1.2 * trials * peak <= 0.9 * total
    if cpus <= min(one["CPU"] for one in nodes):
        share = share_of(
            Site(cpus_per_trial=cpus, gpus_per_trial=proposal.gpus), nodes, None, 10**6, memory=proposal.memory
        )
        assert 1 <= share.concurrent <= sum(trials * one["GPU"] for one in nodes)
        assert share.concurrent * cpus <= sum(one["CPU"] for one in nodes)


@pytest.mark.parametrize(
    ("result", "nodes", "fraction", "reason"),
    [
        ({}, [node(64, 4)], 0.3333, "busy"),  # 31 % busy: three fill it
        ({"busy": 0.95}, [node(64, 4)], 1.0, "busy"),
        ({"busy": 0.6}, [node(64, 4)], 0.5, "busy"),
        ({"busy": 0.0}, [node(64, 1)], 0.0625, "16 at most"),
        ({"busy": None}, [node(64, 1)], 0.0625, "16 at most"),
        ({"busy": 0.01, "gpu_memory": 9 * GB}, [node(64, 4)], 0.1666, "its memory"),
        ({"busy": 0.01, "gpu_memory": 70 * GB}, [node(64, 4)], 1.0, "its memory"),
        ({"busy": 0.01}, [node(16, 4)], 0.25, "cores"),
        ({"busy": 0.01}, [node(2, 4)], 1.0, "cores"),  # half a core for each GPU
        ({"busy": 0.01}, [node(64, 4, 20)], 0.3333, "node has memory"),  # 15 trials of 1.33 GB on four GPUs
    ],
)
def test_what_is_scarcest_decides_and_is_reported(
    result: dict[str, Any], nodes: list[dict[str, float]], fraction: float, reason: str
) -> None:
    proposal = on_gpus(measured(**result), nodes, 1.0)
    assert proposal.gpus == fraction
    assert reason in proposal.reason


@given(st.integers(1, 50 * GB), st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.floats(0, 1e4)), nodes_without)
def test_never_more_trials_on_a_node_than_its_memory_and_its_cores_allow(
    peak: int, rates: dict[int, float], nodes: list[dict[str, float]]
) -> None:
    result = measured(memory=peak, rates={1: 10.0} | rates)
    if peak > max(int(one["memory"]) for one in nodes):
        with pytest.raises(ClusterError, match=r"took .* of memory, and no node has more than"):
            on_cpus(result, nodes)
        return
    proposal = on_cpus(result, nodes)
    assert proposal.gpus == 0
    assert proposal.cpus >= best_threads(result.rates)
    asked = Site(cpus_per_trial=proposal.cpus, gpus_per_trial=0)
    for one in nodes:
        try:
            fits = share_of(asked, [one], None, 10**6, memory=proposal.memory).concurrent
        except ClusterError:
            fits = 0
        assert fits * proposal.cpus <= one["CPU"] + 1e-6
        assert fits * proposal.memory <= one["memory"]
        assert fits <= 1 or 1.2 * fits * peak <= 0.9 * one["memory"]


@pytest.mark.parametrize(
    ("rates", "nodes", "cpus", "fits"),
    [
        ({1: 100, 2: 130}, [node(8)], 1, 8),  # pitfall 32
        ({1: 100, 2: 230, 4: 300}, [node(8)], 2, 4),
        ({1: 100, 2: 204}, [node(8)], 1, 8),
        ({1: 100}, [node(8, memory_gb=4.1)], 2.6666, 3),  # memory for three trials of 1.33 GB: they share the cores
        ({1: 100}, [node(8, memory_gb=4.1), node(8)], 1, 11),  # and the other node is not held back
        ({1: 100}, [node(8, memory_gb=1.1)], 8, 1),
    ],
)
def test_cores_go_where_they_train_most(
    rates: dict[int, float], nodes: list[dict[str, float]], cpus: float, fits: int
) -> None:
    proposal = on_cpus(measured(rates=rates), nodes)
    assert proposal.cpus == cpus
    asked = Site(cpus_per_trial=proposal.cpus, gpus_per_trial=0)
    assert share_of(asked, nodes, None, 1000, memory=proposal.memory).concurrent == fits


def test_what_a_trial_takes_is_asked_of_ray() -> None:
    assert Share(cpus=1, gpus=0.25, concurrent=4, memory=GB).bundle == {"CPU": 1, "GPU": 0.25, "memory": GB}


# --- the largest point


def plan_of(workload: Any, *, trials: str = "3", **method: Any) -> SearchSpec:
    return spec_of(workload, budget=Budget(trials=trials), method=Method(**method))


SIZED = replace(
    make_tiny(good={"x": 0.3, "optional": 7}, bad={"x": 0.1}), sizing={"optional": float, "y": float}
)  # optional is 1 to 5 where it is searched


@pytest.mark.parametrize(
    ("method", "trials", "largest"),
    [
        ({"presets": "none"}, "3", 1),  # held at its default
        ({"presets": "none", "free": ("optional",)}, "3", 5),
        ({"presets": "none", "set": ("optional=3",)}, "3", 3),
        ({"presets": "all"}, "3", 7),
        ({"presets": "bad", "free": ("optional",)}, "3", 5),
        ({"presets": "bad", "free": ("optional",)}, "0", 1),
        ({"presets": "bad", "set": ("optional=9",)}, "3", 9),
    ],
)
def test_the_largest_point_is_the_largest_of_this_search(method: dict[str, Any], trials: str, largest: int) -> None:
    plan = plan_of(SIZED, trials=trials, **method)
    point = largest_point(plan)
    assert point["optional"] == largest
    assert point["y"] == (1.0 if trials != "0" else 0.0)  # a parameter of one branch of the space alone
    assert describe_sizes(plan, point) == f"optional={largest}, y={point['y']}"


# --- the monitor


def test_memory_that_is_shared_is_not_counted(tmp_path: Path) -> None:
    size = 100 * 2**20
    (tmp_path / "data").write_bytes(b"1" * size)
    before = private_bytes()
    with (tmp_path / "data").open("rb") as file:
        shared = np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ), dtype=np.uint8)
    assert int(shared.sum()) == 49 * size
    assert private_bytes() - before < size / 4
    own = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
    own[:] = 1  # in pages of its own: malloc may give back what an earlier test had
    assert private_bytes() - before > 0.75 * size
    assert own.sum() == size


def test_the_peak_is_seen_though_it_is_over() -> None:
    with ResourceMonitor(on_gpu=False) as monitor:
        before = private_bytes()
        own = np.ones(200 * 2**20, dtype=np.uint8)
        time.sleep(0.5)
        del own
    assert monitor.memory - before > 150 * 2**20
    assert (monitor.gpu_memory, monitor.gpu_context, monitor.gpu_busy) == (0, 0, None)


class PlannedGpu:
    """Figures of a GPU as its driver would give them, one after the other."""

    def __init__(self, used: list[int], ours: int | None, busy: list[float]) -> None:
        self._used, self._ours, self._busy = used, ours, busy

    def total(self) -> int:
        return 80 * GB

    def used(self) -> int:
        return self._used.pop(0) if len(self._used) > 1 else self._used[0]

    def used_by(self, pid: int) -> int | None:
        assert pid == os.getpid()
        return self._ours

    def busy(self) -> float | None:
        return self._busy.pop(0) if self._busy else None


@pytest.mark.parametrize(
    ("used", "ours", "memory", "context"),
    [
        ([5 * GB, 8 * GB], int(2.5 * GB), int(2.5 * GB), GB // 2),  # others have come, too
        ([5 * GB, 8 * GB], None, 3 * GB, GB),  # as in a container
        ([5 * GB, 5 * GB], None, 2 * GB + 600 * 2**20, 600 * 2**20),  # our context was there before
    ],
)
def test_memory_of_a_gpu_is_that_of_tensors_and_of_cuda_itself(
    monkeypatch: pytest.MonkeyPatch, used: list[int], ours: int | None, memory: int, context: int
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 2 * GB)
    with ResourceMonitor(on_gpu=True, driver=PlannedGpu(used, ours, [])) as monitor:
        monitor.sample()
    assert (monitor.gpu_memory, monitor.gpu_context) == (memory, context)
    assert monitor.gpu_free == 75 * GB
    assert monitor.gpu_busy is None


def test_the_load_is_that_of_the_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 2 * GB)
    with ResourceMonitor(on_gpu=True, driver=PlannedGpu([0], GB, [0.0] * 5 + [0.4] * 100)) as monitor:
        time.sleep(1.5)
    assert monitor.gpu_busy == pytest.approx(0.4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_driver() -> None:
    assert find_driver() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu_is_measured() -> None:
    config, data = ZDCConfig(epochs=3, batch_size=256), simulate_data(2000, 1)
    result = run_benchmark(ZDCTraining, config, data, "cuda", [1], 3.0)
    assert 2**27 < result.gpu_memory < result.gpu_free <= torch.cuda.get_device_properties(0).total_memory
    assert result.busy is not None
    assert 0 < result.busy <= 1


# --- the benchmark


class Counting(TinyTraining):
    """Says how often it was built, and with how many threads it trains."""

    built = 0
    threads: list[int]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        type(self).built += 1

    def train_epoch(self) -> dict[str, float]:
        type(self).threads.append(torch.get_num_threads())
        return super().train_epoch()


@pytest.fixture
def counting() -> Iterator[type[Counting]]:
    before = torch.get_num_threads()
    Counting.built, Counting.threads = 0, []
    yield Counting
    torch.set_num_threads(before)


def test_a_benchmark_ends_in_the_middle_of_an_epoch(counting: type[Counting]) -> None:
    started = time.monotonic()
    result = run_benchmark(counting, TinyConfig(epoch_seconds=1000), TinyData(), "cpu", [1], 0.2)
    assert 0.9 < time.monotonic() - started < 500  # five times as long as it is meant, for want of any epoch
    assert result.rates == {1: 0.0}
    assert result.memory > 10 * 2**20


def test_what_is_being_imported_when_the_benchmark_is_over_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As parts of torch are in the first update: a module that is cut off is broken for the rest of the process."""
    (tmp_path / "slowly.py").write_text("import time\nfor _ in range(100):\n    time.sleep(0.02)\n")
    monkeypatch.syspath_prepend(tmp_path)

    class Importing(TinyTraining):
        def train_epoch(self) -> dict[str, float]:
            importlib.import_module("slowly")
            loaded.append(True)
            return super().train_epoch()

    loaded: list[bool] = []
    run_benchmark(Importing, TinyConfig(), TinyData(), "cpu", [1], 0.1)
    assert loaded


def test_a_benchmark_ends_between_two_updates_where_it_can() -> None:
    class Updating(TinyTraining):
        def train_epoch(self) -> dict[str, float]:
            while True:
                optimizer.step()
                between.append(len(between))
                time.sleep(0.02)
                between.pop()

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    optimizer.step()  # the first one loads parts of torch
    between: list[int] = []
    result = run_benchmark(Updating, TinyConfig(), TinyData(), "cpu", [1, 2], 0.3)
    assert all(rate > 1 for rate in result.rates.values())
    assert between == []


def test_a_benchmark_leaves_torch_as_it_found_it() -> None:
    class Struck(TinyTraining):
        def train_epoch(self) -> dict[str, float]:
            torch.set_grad_enabled(False)  # as at the border of a no_grad block
            time.sleep(1000)
            return super().train_epoch()

    run_benchmark(Struck, TinyConfig(), TinyData(), "cpu", [1], 0.1)
    assert torch.is_grad_enabled()


def test_a_trial_that_is_over_or_diverges_begins_anew(counting: type[Counting]) -> None:
    for config in (TinyConfig(epochs=2, epoch_seconds=0.01), TinyConfig(diverge_epoch=2, epoch_seconds=0.01)):
        counting.built = 0
        result = run_benchmark(counting, config, TinyData(), "cpu", [1], 0.5)
        assert counting.built > 3
        assert 5 < result.rates[1] <= 100


def test_each_number_of_threads_is_measured_until_more_are_a_waste(counting: type[Counting]) -> None:
    result = run_benchmark(counting, TinyConfig(epochs=100, epoch_seconds=0.01), TinyData(), "cpu", [1, 2, 4], 0.3)
    assert list(result.rates) == [1, 2]  # two threads sleep as fast as one
    assert sorted(set(counting.threads)) == [1, 2]


def test_a_trial_that_fails_says_why(counting: type[Counting]) -> None:
    with pytest.raises(RuntimeError, match="on fire"):
        run_benchmark(counting, TinyConfig(crash_epoch=1), TinyData(), "cpu", [1], 0.5)


@pytest.mark.usefixtures("one_thread")
def test_updates_are_counted_inside_a_long_epoch() -> None:
    config, data = ZDCConfig(epochs=1, batch_size=64, hidden_dim=4, gan=False), simulate_data(3000, 1)
    started = time.monotonic()
    result = run_benchmark(ZDCTraining, config, data, "cpu", [1], 1.0)
    assert result.rates[1] > 1
    assert result.memory > 50 * 2**20
    assert Measurement.from_dict(json.loads(json.dumps(result.as_dict()))) == result
    assert time.monotonic() - started < 200


def test_the_timer_of_others_runs_on() -> None:
    """pytest-timeout's, for one."""
    before = signal.getitimer(signal.ITIMER_REAL)[0]
    run_benchmark(TinyTraining, TinyConfig(), TinyData(), "cpu", [1], 0.1)
    after = signal.getitimer(signal.ITIMER_REAL)[0]
    assert (after > 0) == (before > 0)


# --- on a cluster


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_what_is_not_free_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.autosize.placement._RESERVE_S", 0.5)
    with pytest.raises(BenchmarkError, match=r"no free place for 1 CPU and 1 GPU within"):
        run_on_cluster(TinyTraining, TinyConfig(), TinyData(), [{"CPU": 1.0, "GPU": 1.0}], [1], 0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_where_a_node_is_not_free_one_core_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.autosize.placement._RESERVE_S", 3.0)
    result = run_on_cluster(TinyTraining, TinyConfig(), TinyData(), [{"CPU": 64.0}, {"CPU": 1.0}], [1, 64], 0.2)
    assert list(result.rates) == [1]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.tuning.autosize.resolve, "CPU_BENCHMARK_S", 0.5)
        yield


AUTO = ("--cpus-per-trial", "auto", "--trials", "2", "--scheduler", "none", "--set", "epoch_seconds=0.01")


@pytest.fixture(scope="module")
def sized(run_tiny: Callable[..., Finished]) -> Finished:
    return run_tiny("sized", *AUTO)


def line(done: Finished, beginning: str = "sizing ") -> str:
    found = [line for line in done.text.splitlines() if line.startswith(beginning)]
    assert len(found) == 1, done.text
    return found[0]


@pytest.mark.slow
def test_a_search_tells_what_it_measured_and_uses_it(sized: Finished) -> None:
    assert sized.code == 0, sized.text
    assert "one trial: " in line(sized)
    assert line(sized).endswith("s: 1 CPU each, one on every core")
    assert "2 trials at a time, each 1 CPU and no GPU" in sized.text


@pytest.mark.slow
def test_what_was_used_is_in_every_record(sized: Finished) -> None:
    assert sized.parent.data.params["cpus_per_trial"] == "1.0"
    assert sized.board["share"] == {"cpus_per_trial": 1.0, "gpus_per_trial": 0.0, "max_concurrent": 2}
    kept = json.loads((sized.folder / "sizing.json").read_text())
    assert kept["measured"]["rates"].keys() >= {"1"}
    assert json.loads(sized.artifact(sized.parent, "sizing.json")) == kept


@pytest.mark.slow
def test_a_search_that_goes_on_does_not_measure_again_but_in_another_cluster(
    sized: Finished, run_tiny: Callable[..., Finished]
) -> None:
    file = sized.folder / "sizing.json"
    before = file.read_bytes()
    again = run_tiny("sized", *AUTO[:2], "--trials", "+1", *AUTO[4:])
    assert again.code == 0, again.text
    assert "when the search began" in line(again)
    assert file.read_bytes() == before
    file.write_text(json.dumps(json.loads(before) | {"cluster": ["64 CPUs, 8 GPUs"]}))
    elsewhere = run_tiny("sized", *AUTO[:2], "--trials", "+1", *AUTO[4:])
    assert "when the search began" not in line(elsewhere)
    assert json.loads(file.read_text())["cluster"] == json.loads(before)["cluster"]


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["false", "true"])
def test_a_benchmark_that_fails_is_reported_and_the_search_runs(
    run_tiny: Callable[..., Finished], tmp_path: Path, kill: str
) -> None:
    """Its first process crashes, and no other."""
    flags = (f"crash_marker={tmp_path / 'crashes'}", "crash_epoch=1", "crashes=1", f"kill={kill}")
    done = run_tiny(f"crashed-{kill}", *AUTO, *flags)
    assert done.code == 0, done.text
    result = line(done, "warning  sizing: ")
    assert "the benchmark of one trial failed" in result
    assert ("worker died" if kill == "true" else "the disk of this node is on fire") in result
    assert result.endswith("Each trial gets 1 CPU.")
    assert done.board["outcomes"] == {"complete": 2}
    assert not (done.folder / "sizing.json").exists()


class Greedy(TinyTraining):
    """What torch says where a tensor is too large."""

    def train_epoch(self) -> dict[str, float]:
        if self.config.optional > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 TB")
        return super().train_epoch()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_largest_trial_that_runs_out_of_memory_is_reported(storage: Path) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workload = replace(make_tiny(big={"x": 0.1, "optional": 5}), training=Greedy, sizing={"optional": float})
    flags = ("--cpus-per-trial", "auto", "--trials", "1", "--retries", "0", "--scheduler", "none")
    done = run_search(workload, storage, "greedy-at-once", *flags)
    result = line(done, "warning  sizing: ")
    assert "one trial at its largest (optional=5) runs out of memory" in result
    assert "such points will fail" in result
    assert done.board["outcomes"] == {"complete": 1, "failed": 1}


@pytest.mark.slow
def test_without_auto_nothing_is_measured(run_tiny: Callable[..., Finished]) -> None:
    done = run_tiny("given", "--cpus-per-trial", "1", "--gpus-per-trial", "auto", "--trials", "1")
    assert done.code == 0, done.text
    assert "sizing" not in done.text


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_real_workload_is_sized(storage: Path) -> None:
    from search.workloads import WORKLOADS

    workload = replace(WORKLOADS["zdc"], load_data=lambda settings, cache: simulate_data(1500, 1))
    small = ("--presets", "none", "--trials", "1", "--epochs", "1", "--set", "hidden_dim=4", "batch_size=256")
    done = run_search(workload, storage, "sized-zdc", "--gpus-per-trial", "auto", *small)
    assert done.code == 0, done.text
    assert "one trial at its largest (gan=True, hidden_dim=4, batch_size=256): " in line(done)
    content = json.loads((done.folder / "sizing.json").read_text())["measured"]
    assert content["rates"].keys() >= {"1"}  # 0 where a busy machine makes no second update in the benchmark
    assert content["memory"] > 50 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("later_s", [0.0, 2.0])
def test_ctrl_c_in_the_benchmark_leaves_nothing_behind(tmp_path: Path, later_s: float) -> None:
    command = [sys.executable, "-u", "alone.py", "tiny", "--storage", str(tmp_path), "--name", "early"]
    flags = ["--gpus-per-trial", "auto", "--set", "epoch_seconds=1000"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    process = subprocess.Popen(
        [*command, *flags], cwd=ROOT / "tests", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip

    def in_the_benchmark() -> bool:
        assert process.poll() is None, process.communicate()[0]
        with contextlib.suppress(psutil.Error):  # processes of Ray come and go
            children = psutil.Process(process.pid).children(recursive=True)
            return any("_BenchmarkActor" in name for child in children for name in child.cmdline())
        return False

    try:
        wait_until(in_the_benchmark, "the process of the benchmark")
        time.sleep(later_s)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    assert process.returncode == 130, text
    assert "interrupted at once" in text
    assert "Traceback" not in text
    assert not (tmp_path / "searches").exists()


# --- GPUs that are none


def on_declared_gpus(tmp_path: Path, *flags: str, folder: str = "") -> str:
    command = [sys.executable, str(ROOT / "tests" / "on_declared_gpus.py"), folder, "tiny"]
    where = ("--storage", str(tmp_path / "results"), "--name", "one", "--retries", "0")
    done = subprocess.run(
        [*command, *where, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stdout + done.stderr  # no trial can train on them
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_on_which_nothing_can_be_measured_is_given_whole(tmp_path: Path) -> None:
    text = on_declared_gpus(tmp_path, "--gpus-per-trial", "auto", "--trials", "2")
    (result,) = (line for line in text.splitlines() if line.startswith("warning  sizing: "))
    assert "the benchmark of one trial failed" in result
    assert "CUDA" in result
    assert result.endswith("Each trial gets a whole GPU.")
    assert "2 trials at a time, each 1 CPU and 1 GPU" in text


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_trials_see_the_gpu_that_they_were_given_and_two_halves_share_one(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    flags = ("--gpus-per-trial", "0.5", "--cpus-per-trial", "0.5", "--trials", "4", "--max-failures", "0")
    on_declared_gpus(tmp_path, *flags, folder=str(tmp_path / "seen"))
    seen = [json.loads(file.read_text()) for file in (tmp_path / "seen").glob("*.json")]
    assert sorted(one["devices"] for one in seen) == ["0", "0", "1", "1"]
    assert {one["threads"] for one in seen} == {"1"}


def test_headroom_is_for_growth_and_for_others() -> None:
    assert with_headroom(90) == 120
