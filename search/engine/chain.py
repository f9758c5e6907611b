"""Run the searches of a chain one after another, each on the winners of the ones before, to one table at the end."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from search.config.provenance import command_line
from search.config.settings import Budget, Method, SearchFlags, Site, seconds
from search.config.spec import SearchSpec, make_spec, new_name, unknown
from search.engine.context import open_event_log, open_ray
from search.engine.export_rest import export_rest
from search.engine.search_run import COMPLETE, NOTHING_COMPLETE, SearchResult, finished, run_search
from search.errors import UsageError
from search.reporting.console import SafeConsole, libraries_logged
from search.reporting.leaderboard import Leaderboard, number
from search.reporting.summary import ConsoleReporter
from search.storage.disk import check_writable, write_atomically
from search.storage.location import Storage
from search.storage.names import LOG
from search.storage.search_dir import SearchDir
from search.workload import Chain, Workload
from search.workloads import WORKLOADS

Rows = Mapping[str, Mapping[str, float]]


def run_chain(chain: Chain, flags: SearchFlags[Any], console: SafeConsole) -> int:
    """Run all searches; return the exit code of the first search that does not end well."""
    workloads = [WORKLOADS[name] for name in chain.workloads]
    name = flags.site.name or new_name(chain.name)
    storage = Storage.of(flags.site)
    check_writable(flags.json)
    _check_name(flags, name, workloads, storage)
    _check_words(flags.method, workloads)
    specs = [make_spec(workload, _stage(flags, name, workload)) for workload in workloads]
    started, done = time.monotonic(), dict[str, SearchResult]()
    with libraries_logged(console.log_file):
        with open_ray(flags.site.address, ConsoleReporter(console)):
            for place, spec in enumerate(specs):
                budget = _share_of_time(flags.budget, started, len(specs) - place)
                spec = _with_upstream(replace(spec, budget=budget, tags={"chain": name}), name, done)
                later = any(SearchDir(storage, other.name).begun for other in specs[place + 1 :])
                result = finished(spec, SearchDir(storage, spec.name), all_trials=False) if later else None
                # once a later search has begun, its winner must not change
                result = result or run_search(spec, console)
                done[spec.workload.name] = result
                if result.code != COMPLETE:
                    _report_stopped(spec, specs[place + 1 :], result, console)
                    return result.code
        console.log_file.open(SearchDir(storage, spec.name).path / LOG, command_line())
        _conclude(chain, flags, spec, done, console)
    return COMPLETE


def _check_name(flags: SearchFlags[Any], name: str, workloads: list[Workload], storage: Storage) -> None:
    """Require, before the first search, that all names are free, or that there is something to resume."""
    resume = flags.site.resume
    if resume != "no" and flags.site.name is None:
        raise UsageError(f"--resume {resume}: say with --name which chain is to go on.")
    directories = [SearchDir(storage, f"{name}.{workload.name}") for workload in workloads]
    for directory in directories:
        directory.fetch()
    if resume == "yes" and not any(directory.path.exists() for directory in directories):
        raise UsageError(f"--resume: no chain named {name!r} is in {storage}.")
    for directory in directories if resume == "no" else ():
        directory.refuse_if_taken()


def _report_stopped(spec: SearchSpec, left: list[SearchSpec], result: SearchResult, console: SafeConsole) -> None:
    if left and result.code == NOTHING_COMPLETE:
        names = ", ".join(other.workload.name for other in left)
        ConsoleReporter(console).print_line(
            f"chain    stopped: {spec.workload.name} has no complete trial; not run: {names}"
        )


def _stage(flags: SearchFlags[Any], name: str, workload: Workload) -> SearchFlags[Any]:
    """Return the flags of one search: of the hyperparameters and presets that are named, those that it has."""
    method, fields = flags.method, workload.config.model_fields
    own: dict[str, Any] = {
        "set": tuple(pair for pair in method.set if pair.partition("=")[0] in {*fields, "epochs", "seed"}),
        "free": tuple(key for key in method.free if key in workload.optional),
        "warm_from": tuple(f"{earlier}.{workload.name}" for earlier in method.warm_from),  # of earlier chains
    }
    if method.presets not in (None, "all", "none"):
        own["presets"] = ",".join(_known(method.presets, workload)) or "none"
    resume = "no" if flags.site.resume == "no" else "auto"  # the interrupted search is resumed, later ones start
    site = flags.site.model_copy(update={"name": f"{name}.{workload.name}", "resume": resume})
    return replace(flags, method=method.model_copy(update=own), site=site, json=None)


def _known(presets: str, workload: Workload) -> list[str]:
    return [preset for preset in (word.strip() for word in presets.split(",")) if preset in workload.presets]


def _check_words(method: Method, workloads: list[Workload]) -> None:
    """Require that each word means something to one of the searches."""
    if method.upstream:
        raise UsageError("--upstream: a chain builds on its own winners. Run the last workload alone to name others.")
    words: dict[str, tuple[Sequence[str], list[Iterable[str]]]] = {
        "hyperparameter": (
            [pair.partition("=")[0] for pair in method.set],
            [[*workload.config.model_fields] for workload in workloads],
        ),
        "optional hyperparameter": (method.free, [workload.optional for workload in workloads]),
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


def _share_of_time(budget: Budget, started: float, left: int) -> Budget:
    """Share what is left of the chain's time limit among the searches that are left."""
    if budget.time_limit is None:
        return budget
    rest = max(seconds(budget.time_limit) - (time.monotonic() - started), 1.0)
    return budget.model_copy(update={"time_limit": f"{rest / left:.0f}s" if rest >= left else "1s"})


def _with_upstream(spec: SearchSpec, chain: str, done: Mapping[str, SearchResult]) -> SearchSpec:
    """Build on the winners of the searches so far."""
    upstream = tuple(done[name].run_id or f"{chain}.{name}" for name in spec.workload.builds_on)
    return replace(spec, method=spec.method.model_copy(update={"upstream": upstream}))


def _conclude(
    chain: Chain, flags: SearchFlags[Any], last: SearchSpec, done: Mapping[str, SearchResult], console: SafeConsole
) -> None:
    """Write the one table: on screen, in the directory of the last search, in its MLflow run, and where --json says."""
    reporter, storage, name = ConsoleReporter(console), Storage.of(flags.site), last.tags["chain"]
    boards = {workload: result.leaderboard for workload, result in done.items()}
    rows = _rows(chain, boards)
    console.print(_table(chain, name, rows))
    content = {"chain": name, "rows": rows, "searches": {key: board.as_dict() for key, board in boards.items()}}
    texts = {"chain.json": json.dumps(content, indent=2), "chain.csv": _csv(chain, rows)}
    directory = SearchDir(storage, last.name)
    for file, text in texts.items():
        write_atomically(directory.path / file, text)
    reporter.write_json(flags.json, texts["chain.json"])
    directory.upload(*texts)
    _log(directory, texts, flags.site, reporter)
    reporter.print_line(
        f"chain    {directory.path / 'chain.csv'}; in MLflow the tag chain = {name} ties its searches and trials"
    )


def _log(directory: SearchDir, texts: Mapping[str, str], site: Site, reporter: ConsoleReporter) -> None:
    """Add files to the event log of a search that has ended, and export them to its run in MLflow if it has one."""
    with directory.locked(say=reporter.print_line):
        events, _ = open_event_log(directory)
        for file, text in texts.items():
            events.log_text(text, file)
        events.search_ended("FINISHED")
        directory.push()
        export_rest(site, directory, reporter)


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
