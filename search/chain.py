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

from search.command import Command
from search.conduct import COMPLETE, Conducted, check_writable, conduct, finished
from search.errors import UsageError
from search.folder import SearchFolder
from search.leaderboard import Leaderboard, number
from search.plan import Plan, make_plan, new_name, unknown
from search.resources import ray_session
from search.settings import Budget, Method, seconds
from search.summary import Summary
from search.tracking import log_texts, open_experiment
from search.workloads import WORKLOADS, Chain, Workload

Rows = Mapping[str, Mapping[str, float]]


def run_chain(chain: Chain, command: Command[Any], console: Console) -> tuple[str, int]:
    """Name of the chain, and exit code: that of the first search which does not end well."""
    workloads = [WORKLOADS[name] for name in chain.workloads]
    name = command.site.name or new_name(chain.name)
    check_writable(command.json)
    _check_words(command.method, workloads)
    commands = [_stage(command, name, workload) for workload in workloads]
    plans = [
        make_plan(workload, stage.budget, stage.method, stage.site, demo=not command.data.data)
        for workload, stage in zip(workloads, commands, strict=True)
    ]
    storage = command.site.storage.resolve()
    if not command.site.resume:
        for plan in plans:  # before the first search, not after it
            SearchFolder(storage, plan.name).check(resume=False)
    started, done = time.monotonic(), dict[str, Conducted]()
    with ray_session(command.site.address):
        for left, plan, stage in zip(range(len(plans), 0, -1), plans, commands, strict=True):
            folder = SearchFolder(storage, plan.name)
            ended = finished(plan, folder) if folder.path.exists() else None
            if ended is None:
                stage = _settled(stage, folder, done, plan.workload, _share(command.budget, started, left))
                ended = conduct(plan, stage, console, {"chain": name})
            done[plan.workload.name] = ended
            if ended.code != COMPLETE:
                return name, ended.code
    _conclude(chain, name, command, plans, done, console)
    return name, COMPLETE


def _stage(command: Command[Any], name: str, workload: Workload) -> Command[Any]:
    """The command of one search: of what names a hyperparameter, preset, objective or limit, its own part."""
    method, fields = command.method, workload.config.model_fields
    own: dict[str, Any] = {
        "set": tuple(pair for pair in method.set if pair.partition("=")[0] in {*fields, "epochs", "seed"}),
        "also": tuple(key for key in method.also if key in workload.optional),
    }
    if method.presets not in (None, "all", "none"):
        own["presets"] = ",".join(_known(method.presets, workload)) or "none"
    site = command.site.model_copy(update={"name": f"{name}.{workload.name}"})
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
            [{*workload.config.model_fields, "epochs", "seed"} for workload in workloads],
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


def _settled(
    stage: Command[Any], folder: SearchFolder, done: Mapping[str, Conducted], workload: Workload, budget: Budget
) -> Command[Any]:
    """The command with what is known only now: the winners so far, the time left, and whether it goes on."""
    method = stage.method.model_copy(update={"branches": tuple(done[name].run_id for name in workload.builds_on)})
    site = stage.site.model_copy(update={"resume": folder.path.exists()})
    return replace(stage, method=method, site=site, budget=budget)


def _conclude(
    chain: Chain, name: str, command: Command[Any], plans: list[Plan], done: Mapping[str, Conducted], console: Console
) -> None:
    """The one table: on screen, in the folder of the last search, in its MLflow run, and where --json says."""
    summary, storage, last = Summary(console), command.site.storage.resolve(), plans[-1]
    boards = {workload: ended.leaderboard for workload, ended in done.items()}
    rows = _rows(chain, boards)
    console.print(_table(chain, name, rows))
    content = {"chain": name, "rows": rows, "searches": {key: board.as_dict() for key, board in boards.items()}}
    texts = {"chain.json": json.dumps(content, indent=2), "chain.csv": _csv(chain, rows)}
    folder = SearchFolder(storage, last.name).path
    files = {folder / file: text for file, text in texts.items()}
    if command.json is not None:
        files[command.json] = texts["chain.json"]
    for file, text in files.items():
        file.write_text(text)
    experiment = open_experiment(command.site.server, storage, last.workload.name)
    summary.tell_failures(log_texts(experiment, done[last.workload.name].run_id, texts))
    summary.say(f"chain    {folder / 'chain.csv'}; in MLflow the tag chain = {name} ties its searches and trials")


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
