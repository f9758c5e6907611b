"""Several processes read files as one does: the same cache in any order, the same refusals, an end in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uproot
import zdc_files
from pt_files import branches, write

from trainables.base.errors import DataError
from trainables.data import sources
from trainables.data.cache import Cache
from trainables.data.read_process import ReadProcess
from trainables.data.split import SPLIT_THREE
from trainables.pt import ingest as pt
from trainables.runtime import progress
from trainables.runtime.machine_limits import MachineLimits
from trainables.zdc import ingest as zdc
from trainables.zdc.simulate import simulate_batches, write_file

PROCESSES = 2


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small files are read by several processes, in ranges of one chunk, and none of these is left at the end."""
    monkeypatch.setattr(sources, "LARGE_BYTES", 0)
    monkeypatch.setattr(sources, "machine_limits", lambda: MachineLimits(PROCESSES, None))
    before = children()
    yield
    assert children() <= before


def children() -> set[str]:
    """The processes that this one has started."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def files_of(workload: str, folder: Path) -> tuple[str, ...]:
    """Three files; the last one of zdc is an RNTuple."""
    if workload == "pt":
        return tuple(write(folder / f"{seed}.root", branches(300 * seed, seed)) for seed in (1, 2, 3))
    layouts = ("mytree", "edm4hep")
    first = [zdc_files.write(folder / f"{layout}.root", layout, columns(layout, 2)) for layout in layouts]
    with uproot.recreate(folder / "ntuple.root") as file:
        made = columns("mytree", 4)
        tree = file.mkrntuple("myTree", {name: values.type.content for name, values in made.items()})
        for _ in range(3):
            tree.extend(made)
    return (*first, str(folder / "ntuple.root"))


def columns(layout: str, seed: int) -> Any:
    return zdc_files.flat_branches(layout, zdc_files.showers(400, seed))


def ingest(workload: str, files: tuple[str, ...], folder: Path, skip: bool = False) -> Cache:
    if workload == "pt":
        return pt.ingest(files, pt.Reading("strict", -1, skip, SPLIT_THREE), folder)
    return zdc.ingest(files, zdc.Reading("auto", 1.0, skip, SPLIT_THREE), folder)


def content(cache: Cache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def outcome(workload: str, files: tuple[str, ...], folder: Path, skip: bool = False) -> dict[str, bytes] | str:
    """The whole cache, or why there is none."""
    try:
        return content(ingest(workload, files, folder, skip))
    except DataError as error:
        assert [path for path in folder.glob("*") if path.suffix != ".lock"] == []
        return f"{type(error).__name__}: {error}"


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("workload", ["zdc", "pt"])
def test_the_cache_is_that_of_one_process(workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(workload, tmp_path)
    whole = outcome(workload, files, tmp_path / "several")
    do = ReadProcess.do

    def late(self: ReadProcess, task: Any) -> Any:
        """The first file is done last."""
        done = do(self, task)
        time.sleep(1.0 * (task.file == files[0]))
        return done

    monkeypatch.setattr(ReadProcess, "do", late)
    another_order = outcome(workload, files, tmp_path / "another order")
    monkeypatch.setattr(sources, "LARGE_BYTES", 1 << 40)
    one = outcome(workload, files, tmp_path / "one")
    assert isinstance(one, dict)
    assert one == whole == another_order


@pytest.mark.usefixtures("several")
def test_ranges_of_one_file_give_the_cache_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their borders are those of chunks, which the processes find anew."""
    write_file(tmp_path / "x.root", "mytree", simulate_batches(150_000, 1))
    (file,) = files = (str(tmp_path / "x.root"),)
    parts = zdc.ZDCReader(zdc.Reading("auto", 0.0, False, SPLIT_THREE)).ranges(file)
    assert len(parts) > PROCESSES
    assert [first for first, _ in parts[1:]] == [stop for _, stop in parts[:-1]]
    steps: list[progress.ReadProgress] = []
    with progress.heard_by(steps.append):
        whole = outcome("zdc", files, tmp_path / "several")
    assert [step.events_done for step in steps] == [stop for _, stop in parts]
    monkeypatch.setattr(sources, "LARGE_BYTES", 1 << 40)
    assert outcome("zdc", files, tmp_path / "one") == whole


def spoil(file: str, how: str) -> None:
    path = Path(file)
    data = path.read_bytes()
    if how == "broken in the middle":
        path.write_bytes(data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * (len(data) // 3) :])
    elif how == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif how == "of another tree":
        write(path, branches(50), tree="other")
    elif how == "absent":
        path.unlink()
    elif how == "in millimetres":
        made = branches(400)
        write(path, made | {name: made[name] * 10 for name in made if name.endswith(("_X", "_Y", "_Z"))})
    else:
        made = branches(400)
        made["trk_X"] = made["trk_X"] * float("inf")
        write(path, made)


BAD = ["broken in the middle", "cut off", "of another tree", "absent", "in millimetres", "not finite"]


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("skip", [False, True], ids=["refused", "--skip-bad-files"])
@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_ends_as_in_one_process(
    how: str, skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of("pt", tmp_path)
    spoil(files[1], how)
    found = outcome("pt", files, tmp_path / "several", skip)
    monkeypatch.setattr(sources, "LARGE_BYTES", 1 << 40)
    expected = outcome("pt", files, tmp_path / "one", skip)
    assert found == expected
    assert isinstance(expected, str) != (skip and how in BAD[:4])
    if isinstance(expected, str):
        assert files[1] in expected


@pytest.mark.usefixtures("several")
def test_a_killed_process_is_an_error_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of("pt", tmp_path)
    do = ReadProcess.do

    def killed(self: ReadProcess, task: Any) -> Any:
        if task.file == files[1] and hasattr(task, "part"):
            self._process.kill()
        return do(self, task)

    monkeypatch.setattr(ReadProcess, "do", killed)
    found = outcome("pt", files, tmp_path / "cache", skip=True)  # it says nothing of the file: nothing is left out
    assert str(found).startswith(f"DataError: {files[1]}: the process that read it ended by SIGKILL in the middle.")


COMMAND = """
import sys
from pathlib import Path
from trainables.data import sources
from trainables.data.split import SPLIT_THREE
from trainables.runtime import progress
from trainables.runtime.machine_limits import MachineLimits
from trainables.zdc.ingest import Reading, ingest

sources.LARGE_BYTES = 0
sources.machine_limits = lambda: MachineLimits(2, None)
with progress.heard_by(lambda step: print(step.events_done, flush=True)):
    ingest((sys.argv[1],), Reading("auto", 0.0, False, SPLIT_THREE), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_reading_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    """No cache either after Ctrl-C; what a killed command leaves, the next one removes."""
    write_file(tmp_path / "x.root", "mytree", simulate_batches(300_000, 1))
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "x.root"), str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        own = [
            int(pid)
            for task in Path(f"/proc/{process.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        assert len(own) == 2
        process.send_signal(number)
        process.wait(60)
    until = time.monotonic() + 60
    while any(map(alive, own)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, own))
    if number == signal.SIGINT:
        assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_reads_imports_no_library_of_training() -> None:
    words = "import sys, trainables.data.read_process, trainables.zdc.ingest, trainables.pt.ingest; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "mlflow", "optuna", "matplotlib"} & set(done.stdout.split())


def test_small_inputs_and_small_jobs_stay_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, memory, size, expected in (
        (8, None, sources.LARGE_BYTES - 1, 1),
        (8, None, sources.LARGE_BYTES, 8),
        (1, None, sources.LARGE_BYTES, 1),
        (8, 3 << 30, sources.LARGE_BYTES, 3),
        (8, 1 << 20, sources.LARGE_BYTES, 1),
        (500, None, sources.LARGE_BYTES, sources.MOST_PROCESSES),
    ):
        limits = MachineLimits(cpus, memory)
        monkeypatch.setattr(sources, "machine_limits", lambda limits=limits: limits)
        assert sources.processes_for(size) == expected
