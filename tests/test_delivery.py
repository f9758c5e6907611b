"""Laws of the export: everything in order, for as long as it takes, and nothing twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from recorded import RecordedSearch, facts_of, record

import search.tracking.artifacts
import search.tracking.exporter
from search.storage.event_log import Entry, EventLog, record_as_json
from search.tracking.client import Experiment, open_experiment
from search.tracking.exporter import WINDOW, MlflowExporter, PendingEvent, UnavailableError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "POLL_S"):
        monkeypatch.setattr(search.tracking.exporter, name, 0.005)
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(search.tracking.artifacts, name, 0.005)


class Flaky:
    """A sink that fails on purpose, at the attempts that are named; it keeps what it was given."""

    def __init__(self, fails: Callable[[int], bool] = lambda attempt: False, half: bool = False) -> None:
        self._fails, self._half = fails, half  # half: it takes a part before it fails
        self.attempts: list[list[PendingEvent]] = []
        self.taken: list[PendingEvent] = []
        self.finalized, self.deduplicated, self.refused = 0, False, list[str]()
        self.incomplete, self.missing, self.first_refusal = set[int | None](), list[str](), ""

    def lacks(self, entry: Entry) -> bool:
        return False

    def settle(self, patience_s: float) -> None: ...

    def close(self) -> None: ...

    def deduplicate(self) -> None:
        self.deduplicated = True

    def write(self, events: Sequence[PendingEvent]) -> None:
        self.attempts.append(list(events))
        if self._fails(len(self.attempts)):
            self.taken += events[: len(events) // 2] if self._half else []
            raise UnavailableError("not now")
        self.taken += events

    def finalize(self) -> None:
        self.finalized += 1

    @property
    def times(self) -> list[int]:
        return [event.entry.at_ms for event in self.taken]


class Gone(Flaky):
    """Away from the first attempt on, until somebody lets it come back."""

    def __init__(self) -> None:
        self.back = threading.Event()
        super().__init__(lambda attempt: not self.back.is_set())

    def finalize(self) -> None:
        if not self.back.is_set():
            raise UnavailableError("still not")
        super().finalize()


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "journal")


@pytest.fixture
def lines() -> list[str]:
    """What users read."""
    return []


def write(log: EventLog, *times: int) -> None:
    for at_ms in times:
        log.append("files", at_ms)


def exported(log: EventLog, sink: Flaky, lines: list[str], patience_s: float = 5) -> MlflowExporter:
    """An export that is over."""
    exporter = MlflowExporter(log.path, sink, lines.append)
    exporter.start()
    exporter.close(patience_s)
    return exporter


def wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---------------------------------------------------------------- with a sink that fails on purpose


def test_nothing_is_exported_that_another_machine_would_not_have(log: EventLog, lines: list[str]) -> None:
    """Until the end, when there is none any more that would go on with it."""
    sink, safe = Flaky(), 0
    exporter = MlflowExporter(log.path, sink, lines.append, lambda: safe)
    exporter.start()
    write(log, 1, 2)
    safe = log.path.stat().st_size
    write(log, 3)
    wait_until(lambda: sink.taken)
    time.sleep(0.1)
    assert sink.times == [1, 2]
    assert exporter.close()
    assert sink.times == [1, 2, 3]


def test_everything_arrives_in_order_in_windows(log: EventLog, lines: list[str]) -> None:
    write(log, *range(2 * WINDOW + 3))
    sink = Flaky()
    exporter = exported(log, sink, lines)
    assert sink.times == list(range(2 * WINDOW + 3))
    assert [len(window) for window in sink.attempts] == [WINDOW, WINDOW, 3]
    assert (exporter.complete, exporter.behind, exporter.exported) == (True, 0, 2 * WINDOW + 3)
    assert (sink.finalized, lines) == (1, [])


def test_what_is_written_while_it_works_arrives_too(log: EventLog, lines: list[str]) -> None:
    sink = Flaky()
    exporter = MlflowExporter(log.path, sink, lines.append)
    exporter.start()
    for at_ms in range(30):
        write(log, at_ms)
        if at_ms % 10 == 0:
            wait_until(lambda at_ms=at_ms: len(sink.taken) == at_ms + 1)
    assert exporter.close()
    assert sink.times == list(range(30))


@pytest.mark.parametrize("half", [False, True])
def test_what_failed_is_tried_again_as_a_whole(log: EventLog, lines: list[str], half: bool) -> None:
    """From its first entry on: how much of it was taken is unknown."""
    write(log, *range(10))
    sink = Flaky(lambda attempt: attempt < 3, half)
    assert exported(log, sink, lines).complete
    assert {window[0].entry.at_ms for window in sink.attempts[:3]} == {0}
    assert sink.times[-10:] == list(range(10))  # after what it took before it failed
    assert all(event.entry.event == "files" for event in sink.taken)


def test_a_target_that_fails_now_and_then_gets_everything(log: EventLog, lines: list[str]) -> None:
    """One that cannot take a whole window takes smaller ones."""

    class Small(Flaky):
        def write(self, events: Sequence[PendingEvent]) -> None:
            if len(events) > 7:
                raise UnavailableError("too much for now")
            super().write(events)

    write(log, *range(100))
    sink = Small()
    assert exported(log, sink, lines).complete
    assert sink.times == list(range(100))


def test_each_event_holds_its_trial_as_it_was_then(log: EventLog, lines: list[str]) -> None:
    trial, states = record(), []
    for trial.epoch, trial.metrics in ((1, {"loss": 0.9}), (2, {"loss": 0.4}), (3, {"loss": 0.1})):
        log.append_trial("epoch_ended", trial.epoch, trial)
        states.append(record_as_json(trial))
    sink = Flaky(lambda attempt: attempt == 1)
    exported(log, sink, lines)
    assert [record_as_json(event.trial) for event in sink.taken if event.trial] == states


def test_nothing_comes_twice_after_a_restart(log: EventLog, lines: list[str]) -> None:
    """The position of the export stands beside the event log."""
    write(log, 1, 2, 3)
    exported(log, Flaky(), lines)
    write(log, 4, 5)
    sink = Flaky()
    exporter = MlflowExporter(log.path, sink, lines.append)
    assert (exporter.behind, exporter.exported) == (2, 3)
    exporter.start()
    assert exporter.close()
    assert sink.times == [4, 5]
    assert not sink.deduplicated


def test_a_restart_rebuilds_the_trials_that_were_exported_before(log: EventLog, lines: list[str]) -> None:
    trial = record(3)
    log.append_trial("trial_started", 1, trial)
    exported(log, Flaky(), lines)
    trial.outcome = "complete"
    log.append_trial("trial_ended", 2, trial)
    sink = Flaky()
    exported(log, sink, lines)
    (event,) = sink.taken
    assert event.trial is not None
    assert record_as_json(event.trial) == record_as_json(trial)


def test_what_a_killed_process_had_half_exported_comes_again(log: EventLog, lines: list[str]) -> None:
    """It could not write down how far it was."""
    write(log, *range(4))
    killed = Flaky(lambda attempt: True, half=True)
    assert not exported(log, killed, lines, patience_s=0).complete
    sink = Flaky()
    exported(log, sink, lines)
    assert sink.times == [0, 1, 2, 3]


@pytest.mark.parametrize("mark", ["", "{", '{"end": "a"}'])
def test_a_mark_that_cannot_be_read_is_none(log: EventLog, lines: list[str], mark: str) -> None:
    write(log, 1, 2)
    exported(log, Flaky(), lines)
    log.path.with_name("journal.delivered").write_text(mark)
    sink = Flaky()
    exported(log, sink, lines)
    assert sink.times == [1, 2]


def test_a_journal_that_lost_its_last_line_is_read_on_from_a_whole_one(log: EventLog, lines: list[str]) -> None:
    """What was exported of it and is lost may come again: the sink has to deduplicate."""
    write(log, 1, 2, 3)
    exported(log, Flaky(), lines)
    log.path.write_bytes(log.path.read_bytes()[:-2])
    again, sink = EventLog(log.path), Flaky()
    exporter = MlflowExporter(log.path, sink, lines.append)
    assert sink.deduplicated
    write(again, 30, 40)
    exporter.start()
    assert exporter.close()
    assert sink.times == [30, 40]


def test_a_server_that_does_not_answer_is_reported_with_how_far_behind_it_is(log: EventLog, lines: list[str]) -> None:
    write(log, 1, 2, 3)
    sink = Gone()
    exporter = MlflowExporter(log.path, sink, lines.append)
    assert exporter.trouble == ""
    exporter.start()
    wait_until(lambda: exporter.trouble)
    write(log, 4)
    assert "MLflow away for 0.0 min" in exporter.trouble
    assert exporter.behind == 4
    sink.back.set()
    wait_until(lambda: exporter.behind == 0)
    assert exporter.trouble == ""
    assert exporter.close()
    assert ["does not answer" in line for line in lines] == [True, False]
    assert "answers again" in lines[1]


def test_patience_at_the_end_has_an_end(log: EventLog, lines: list[str]) -> None:
    write(log, 1)
    started = time.monotonic()
    exporter = exported(log, Gone(), lines, patience_s=0.2)
    assert time.monotonic() - started < 30
    assert (exporter.complete, exporter.behind) == (False, 1)


def test_a_server_that_comes_back_within_the_patience_gets_the_rest(log: EventLog, lines: list[str]) -> None:
    write(log, 1)
    sink = Gone()
    exporter = MlflowExporter(log.path, sink, lines.append)
    exporter.start()
    wait_until(lambda: exporter.trouble)
    threading.Timer(0.2, sink.back.set).start()
    assert exporter.close(patience_s=60)
    assert (sink.times, sink.finalized) == ([1], 1)


def test_a_server_that_does_not_answer_after_the_last_event_is_not_finalized(log: EventLog, lines: list[str]) -> None:
    sink = Gone()
    assert not exported(log, sink, lines, patience_s=0).complete
    assert sink.finalized == 0


# ---------------------------------------------------------------- with MLflow itself


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return open_experiment(None, tmp_path_factory.mktemp("tracking"), "tiny")


@pytest.fixture
def recorded(experiment: Experiment, tmp_path: Path) -> RecordedSearch:
    return RecordedSearch(experiment, facts_of(experiment, token=tmp_path.name), tmp_path)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``failing("create_run", times, done)``: so many calls of this method raise, after or instead of doing it."""

    def fail(method: str, times: int, done: bool, error: Exception | None = None) -> None:
        real, left = getattr(MlflowClient, method), [times]

        def call(self: MlflowClient, *args: Any, **more: Any) -> Any:
            answer = real(self, *args, **more) if done or not left[0] else None
            if left[0]:
                left[0] -= 1
                raise error or ConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(MlflowClient, method, call)

    return fail


def whole(recorded: RecordedSearch) -> None:
    """A search of two trials, with a file each and one of its own."""
    recorded.event_recorder.log_text("hello", "hello.txt")
    recorded.live(record(0), 0.9, 0.5)
    recorded.live(record(1), 0.8, 0.7, 0.6)
    recorded.event_recorder.search_ended("FINISHED")


def require_whole(recorded: RecordedSearch) -> None:
    """Each run and each row of it once, and nothing waits any more."""
    client = recorded.experiment.client
    assert [recorded.rows(run) for run in recorded.runs()] == [[(1, 0.9), (2, 0.5)], [(1, 0.8), (2, 0.7), (3, 0.6)]]
    assert {run.info.status for run in recorded.runs()} == {"FINISHED"}
    assert client.get_run(recorded.facts.run_id).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(recorded.facts.run_id)] == ["hello.txt"]
    for run in recorded.runs():
        (file,) = client.list_artifacts(run.info.run_id, "checkpoint")
        assert file.path == "checkpoint/hyperparameters.json"
    assert not recorded.staged.path.exists()


def test_the_same_events_twice_leave_the_same_behind(recorded: RecordedSearch) -> None:
    whole(recorded)
    events, sink = recorded.events(), recorded.writer()
    sink.write(events)
    sink.write(events)
    recorded.writer().write(events[4:])  # another process, from somewhere on
    sink.finalize()
    sink.settle(60)
    require_whole(recorded)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated", "log_artifact", "log_inputs"])
def test_a_lost_request_or_answer_leaves_nothing_twice(
    recorded: RecordedSearch, failing: Callable[..., None], method: str, done: bool
) -> None:
    whole(recorded)
    failing(method, 2, done)
    assert recorded.export().refused == []
    require_whole(recorded)


def test_a_run_that_was_made_twice_is_there_once(recorded: RecordedSearch) -> None:
    """MLflow's own client asks again when an answer is lost, and says nothing."""
    whole(recorded)
    real = MlflowClient.create_run

    def twice(self: MlflowClient, *args: Any, **more: Any) -> Any:
        real(self, *args, **more)
        return real(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", twice)
        recorded.export()
    require_whole(recorded)


def test_doubles_of_a_killed_process_are_deleted_by_the_next(recorded: RecordedSearch) -> None:
    trial = record()
    recorded.event_recorder.trial_started(trial)
    recorded.writer().write(recorded.events())
    (run,) = recorded.runs()
    tags = {name: run.data.tags[name] for name in ("mlflow.parentRunId", "trial_number", "kind")}
    recorded.experiment.client.create_run(recorded.experiment.id, tags=tags)
    recorded.epoch(trial, 0.5)
    recorded.export()
    (only,) = recorded.runs()
    assert recorded.rows(only) == [(1, 0.5)]


def test_what_is_left_by_a_process_that_is_killed_after_the_last_event_is_deleted_by_the_next(
    recorded: RecordedSearch,
) -> None:
    """A second run without rows, older than the one with them; files without an event; folders without files."""
    whole(recorded)
    writer = recorded.writer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "finalize", _unavailable)
        killed = MlflowExporter(recorded.log.path, writer, recorded.lines.append)
        killed.start()
        wait_until(lambda: not any(path.is_file() for path in recorded.staged.path.rglob("*")))
        assert not killed.close(0.05)
    tags = {name: recorded.runs()[0].data.tags[name] for name in ("mlflow.parentRunId", "trial_number", "kind")}
    recorded.experiment.client.create_run(recorded.experiment.id, tags=tags, start_time=1)
    recorded.staged.stage_text("a text", "file.txt")
    staged = next(event.entry for event in recorded.events() if event.entry.event == "files")
    (recorded.staged.folder_of(staged) / "checkpoint").mkdir(parents=True)

    assert _exporter(recorded).has_work
    recorded.export()
    require_whole(recorded)
    assert not _exporter(recorded).has_work


def _unavailable() -> None:
    raise UnavailableError("not now")


def _exporter(recorded: RecordedSearch) -> MlflowExporter:
    return MlflowExporter(recorded.log.path, recorded.writer(), recorded.lines.append)


@pytest.mark.parametrize(("state", "work"), [({}, False), ({"finalized": True}, False), ({"finalized": False}, True)])
def test_a_search_that_an_earlier_version_exported_whole_needs_no_server(
    log: EventLog, lines: list[str], state: dict[str, bool], work: bool
) -> None:
    """Earlier versions kept only the position of the export."""
    write(log, 1, 2)
    Path(f"{log.path}.delivered").write_text(json.dumps({"end": log.path.stat().st_size} | state))
    assert MlflowExporter(log.path, Flaky(), lines.append).has_work == work


def test_a_search_whose_own_run_was_made_twice_has_one(recorded: RecordedSearch) -> None:
    client, token = recorded.experiment.client, {"token": recorded.folder.name}
    client.create_run(recorded.experiment.id, tags=token)
    whole(recorded)
    recorded.export()
    (only,) = client.search_runs([recorded.experiment.id], f"tags.token = '{recorded.folder.name}'")
    assert only.info.run_id == recorded.facts.run_id
    require_whole(recorded)


def test_a_row_that_is_refused_does_not_cost_the_others(recorded: RecordedSearch) -> None:
    trial = record()
    recorded.event_recorder.trial_started(trial)
    recorded.epoch(trial, 0.9)
    recorded.epoch(trial, 0.5, **{"no such name $": 1.0, "good": 2.0})
    recorded.epoch(trial, 0.4)
    refused = recorded.export().refused
    (run,) = recorded.runs()
    assert recorded.rows(run) == [(1, 0.9), (2, 0.5), (3, 0.4)]
    assert recorded.rows(run, "good") == [(2, 2.0)]
    assert len(refused) == 1
    assert refused[0].startswith("metric no such name $ of step 2: ")


def test_a_run_that_is_refused_does_not_cost_the_others(recorded: RecordedSearch, failing: Callable[..., None]) -> None:
    whole(recorded)
    failing("create_run", 4, False, MlflowException.invalid_parameter_value("never"))  # its start and what follows
    recorded.export()
    assert [recorded.rows(run) for run in recorded.runs()] == [[(1, 0.8), (2, 0.7), (3, 0.6)]]


def test_epochs_that_come_again_after_a_damage_are_there_once(recorded: RecordedSearch) -> None:
    """The event log lost them when they were exported already; the trial repeats them later."""
    trial = record()
    recorded.event_recorder.trial_started(trial)
    recorded.epoch(trial, 0.9)
    recorded.epoch(trial, 0.5, other=1.0)
    recorded.export()
    path = recorded.log.path
    path.write_bytes(path.read_bytes()[:-3])
    time.sleep(0.01)
    again = RecordedSearch(recorded.experiment, recorded.facts, recorded.folder)
    again.event_recorder.search_resumed()
    trial = again.events()[1].trial or trial
    sink = again.writer()
    exporter = MlflowExporter(path, sink, print)
    again.event_recorder.trial_resumed(trial)
    again.epoch(trial, 0.5, other=1.0)
    again.epoch(trial, 0.3, other=2.0)
    exporter.start()
    assert exporter.close()
    (run,) = again.runs()
    assert again.rows(run) == [(1, 0.9), (2, 0.5), (3, 0.3)]
    assert again.rows(run, "other") == [(2, 1.0), (3, 2.0)]


def test_what_waits_is_plain_to_read(recorded: RecordedSearch) -> None:
    """A person may look into a journal that MLflow does not have yet."""
    whole(recorded)
    events = [json.loads(line)["event"] for line in recorded.log.path.read_text().splitlines()]
    assert events == [
        "files", "trial_started", "epoch_ended", "epoch_ended", "files", "trial_ended",
        "trial_started", "epoch_ended", "epoch_ended", "epoch_ended", "files", "trial_ended", "search_ended",
    ]  # fmt: skip
