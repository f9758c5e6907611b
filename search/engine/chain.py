"""Runs the searches of a chain one after another, each on the winners of the ones before, to one table at the end."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from search.config.flags import Command
from search.config.settings import Budget, Method, seconds
from search.config.spec import Plan, make_plan, new_name, unknown
from search.engine.search_run import COMPLETE, NOTHING_COMPLETE, SearchResult, finished, run_search
from search.errors import UsageError
from search.reporting.leaderboard import Leaderboard, number
from search.reporting.summary import Summary
from search.storage.disk import check_writable, write_atomically
from search.storage.event_log import EventLog
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.tracking.client import log_texts, open_experiment
from search.tracking.events import EventRecorder, StagedFiles
from search.tuning.resources import ray_session
from search.workloads import WORKLOADS, Chain, Workload

Rows = Mapping[str, Mapping[str, float]]


def run_chain(chain: Chain, command: Command[Any], console: Console) -> tuple[str, int]:
    """Name of the chain, and exit code: that of the first search which does not end well."""
    workloads = [WORKLOADS[name] for name in chain.workloads]
    name = command.site.name or new_name(chain.name)
    storage = Storage.of(command.site)
    check_writable(command.json)
    _check_name(command, name, workloads, storage)
    _check_words(command.method, workloads)
    commands = [_stage(command, name, workload) for workload in workloads]
    plans = [
        make_plan(workload, stage.budget, stage.method, stage.site, demo=not command.data.data)
        for workload, stage in zip(workloads, commands, strict=True)
    ]
    started, done = time.monotonic(), dict[str, SearchResult]()
    with ray_session(command.site.address):
        for place, (plan, stage) in enumerate(zip(plans, commands, strict=True)):
            stage = _settled(stage, done, plan.workload, _share(command.budget, started, len(plans) - place))
            later = any(SearchDir(storage, other.name).begun for other in plans[place + 1 :])
            ended = finished(plan, SearchDir(storage, plan.name), all_trials=False) if later else None
            ended = ended or run_search(plan, stage, console, {"chain": name})  # its winner must not change any more
            done[plan.workload.name] = ended
            if ended.code != COMPLETE:
                _tell_stopped(plan, plans[place + 1 :], ended, console)
                return name, ended.code
    _conclude(chain, name, command, plans, done, console)
    return name, COMPLETE


def _check_name(command: Command[Any], name: str, workloads: list[Workload], storage: Storage) -> None:
    """Before the first search, not after it: names are free, or there is something to go on with."""
    resume = command.site.resume
    if resume != "no" and command.site.name is None:
        raise UsageError(f"--resume {resume}: say with --name which chain is to go on.")
    folders = [SearchDir(storage, f"{name}.{workload.name}") for workload in workloads]
    for folder in folders:
        folder.fetch()
    if resume == "yes" and not any(folder.path.exists() for folder in folders):
        raise UsageError(f"--resume: no chain named {name!r} is in {storage}.")
    for folder in folders if resume == "no" else ():
        folder.refuse_if_taken()


def _tell_stopped(plan: Plan, left: list[Plan], ended: SearchResult, console: Console) -> None:
    if left and ended.code == NOTHING_COMPLETE:
        names = ", ".join(other.workload.name for other in left)
        Summary(console).say(f"chain    stopped: {plan.workload.name} has no complete trial; not run: {names}")


def _stage(command: Command[Any], name: str, workload: Workload) -> Command[Any]:
    """The command of one search: of the hyperparameters and presets that are named, those that it knows."""
    method, fields = command.method, workload.config.model_fields
    own: dict[str, Any] = {
        "set": tuple(pair for pair in method.set if pair.partition("=")[0] in {*fields, "epochs", "seed"}),
        "also": tuple(key for key in method.also if key in workload.optional),
        "warm_from": tuple(f"{earlier}.{workload.name}" for earlier in method.warm_from),  # of earlier chains
    }
    if method.presets not in (None, "all", "none"):
        own["presets"] = ",".join(_known(method.presets, workload)) or "none"
    resume = "no" if command.site.resume == "no" else "auto"  # the search that was interrupted, and those after it
    site = command.site.model_copy(update={"name": f"{name}.{workload.name}", "resume": resume})
    return replace(command, method=method.model_copy(update=own), site=site, json=None)


def _known(presets: str, workload: Workload) -> list[str]:
    return [preset for preset in (word.strip() for word in presets.split(",")) if preset in workload.presets]


def _check_words(method: Method, workloads: list[Workload]) -> None:
    """Each word must mean something to one of the searches."""
    if method.branches:
        raise UsageError("--branches: a chain builds on its own winners. Run the last workload alone to name others.")
    words: dict[str, tuple[Sequence[str], list[Iterable[str]]]] = {
        "hyperparameter": (
            [pair.partition("=")[0] for pair in method.set],
            [[*workload.config.model_fields] for workload in workloads],
        ),
        "optional hyperparameter": (method.also, [workload.optional for workload in workloads]),
        "preset": (
            [] if method.presets in (None, "all", "none") else [word.strip() for word in method.presets.split(",")],
            [workload.presets for workload in workloads],
        ),
    }
    for what, (used, known) in words.items():
        there = tuple(dict.fromkeys(name for names in known for name in names))
        for word in used:
            if word not in there:
                raise unknown(what, word, there)


def _share(budget: Budget, started: float, left: int) -> Budget:
    """A time limit is that of the whole chain: each search gets its share of what is left."""
    if budget.time_limit is None:
        return budget
    rest = max(seconds(budget.time_limit) - (time.monotonic() - started), 1.0)
    return budget.model_copy(update={"time_limit": f"{rest / left:.0f}s" if rest >= left else "1s"})


def _settled(stage: Command[Any], done: Mapping[str, SearchResult], workload: Workload, budget: Budget) -> Command[Any]:
    """The command with what is known only now: the winners so far, and the time left."""
    chain = str(stage.site.name).removesuffix(workload.name)
    branches = tuple(done[name].run_id or f"{chain}{name}" for name in workload.builds_on)
    method = stage.method.model_copy(update={"branches": branches})
    return replace(stage, method=method, budget=budget)


def _conclude(
    chain: Chain,
    name: str,
    command: Command[Any],
    plans: list[Plan],
    done: Mapping[str, SearchResult],
    console: Console,
) -> None:
    """The one table: on screen, in the folder of the last search, in its MLflow run, and where --json says."""
    summary, storage, last = Summary(console), Storage.of(command.site), plans[-1]
    boards = {workload: ended.leaderboard for workload, ended in done.items()}
    rows = _rows(chain, boards)
    console.print(_table(chain, name, rows))
    content = {"chain": name, "rows": rows, "searches": {key: board.as_dict() for key, board in boards.items()}}
    texts = {"chain.json": json.dumps(content, indent=2), "chain.csv": _csv(chain, rows)}
    shared = SearchDir(storage, last.name)
    folder = shared.path
    files = {folder / file: text for file, text in texts.items()}
    if command.json is not None:
        files[command.json] = texts["chain.json"]
    for file, text in files.items():
        write_atomically(file, text)
    shared.upload(*texts)
    run_id = done[last.workload.name].run_id
    if command.site.silent or not run_id:
        _write_down(shared, texts, summary)
    else:
        experiment = open_experiment(command.site.server, storage.folder, last.workload.name)
        summary.tell_refused(log_texts(experiment, run_id, texts))
    summary.say(f"chain    {folder / 'chain.csv'}; in MLflow the tag chain = {name} ties its searches and trials")


def _write_down(folder: SearchDir, texts: Mapping[str, str], summary: Summary) -> None:
    """In the journal of a search that has ended, for its run in MLflow."""
    with folder.locked(say=summary.say):
        event_recorder = EventRecorder(EventLog(folder.event_log), StagedFiles(folder.path))
        for file, text in texts.items():
            event_recorder.log_text(text, file)
        event_recorder.search_ended("FINISHED")
        folder.push()


def _rows(chain: Chain, boards: Mapping[str, Leaderboard]) -> Rows:
    ranked = {
        workload: [(row.hyperparameters, row.metrics) for row in sorted(board.rows, key=_rank) if row.rank]
        for workload, board in boards.items()
    }
    others = {row.label: row.metrics for row in boards[chain.workloads[-1]].rows if row.number is None}
    return chain.rows(ranked, others)


def _rank(row: Any) -> int:
    return row.rank or 0


def _table(chain: Chain, name: str, rows: Rows) -> Table:
    table = Table(title=f"{name}: {chain.title}")
    for column in ("", *chain.columns):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for label, numbers in rows.items():
        table.add_row(label, *(number(numbers.get(column)) for column in chain.columns))
    return table


def _csv(chain: Chain, rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *chain.columns])
    writer.writerows([label, *(numbers.get(column, "") for column in chain.columns)] for label, numbers in rows.items())
    return text.getvalue()
