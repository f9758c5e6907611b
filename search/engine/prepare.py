"""Prepare a search for its first trial: data, MLflow, upstream models, warm start, its own MLflow run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.config.provenance import CodeState, code_state, command_line, state_of_file
from search.config.spec import SearchSpec
from search.engine.context import PreparedSearch
from search.engine.upstream_in_directories import UpstreamModels
from search.engine.upstream_models import find_upstream_models
from search.engine.warm_start import WarmStart, warm_start
from search.errors import TrackingError
from search.reporting.mlflow_notes import opening_note
from search.reporting.reading import reading_shown
from search.reporting.summary import ConsoleReporter
from search.storage.search_dir import SearchDir
from search.tracking.client import Experiment, client_of, create_search_run, open_experiment
from search.tracking.run_info import OwnRun, RunFacts, new_facts, new_run
from search.tuning.resources import Share
from search.tuning.study import read_study
from search.workload import Data, Workload
from trainables.runtime.imports import file_of


def prepare_search(spec: SearchSpec, directory: SearchDir, resumed: bool, reporter: ConsoleReporter) -> PreparedSearch:
    """Load the data and find all that the search builds on; a resumed search must be the one that was started."""
    cache = (spec.site.cache or directory.storage.folder / "cache").resolve()
    with reporter.announcing("data     reading the files ..."), reading_shown(reporter.console, "data    "):
        data = spec.workload.load_data(spec.data, cache)
    with reporter.announcing("mlflow   opening the experiment ..."):
        experiment = _experiment(spec, directory, resumed, reporter)
    with reporter.announcing("upstream fetching the models that the workload builds on, and applying them ..."):
        upstream = _upstream(spec, data, experiment, directory, resumed)
        if spec.workload.join:
            data = spec.workload.join(data, upstream.models)
    with reporter.announcing("warm     reading the trials of earlier searches ..."):
        warm = _warm(spec, data, directory, experiment)
    if resumed:
        directory.require_same(spec, data)
        directory.set(trials=spec.trials, method=directory.description().get("method", {}) | _race_of(spec))
    lines, warnings = [*data.summary, *upstream.lines, *warm.lines], [*upstream.warnings, *warm.warnings]
    code = _code_of(spec.workload)
    warnings += [one.warning for one in (code_state(), code) if one and one.warning]
    reporter.print_search(spec, lines, warnings)
    reporter.print_tracking(spec.site, tracked=experiment is not None)
    known = directory.history.records() if resumed else []
    return PreparedSearch(resumed, known, data, experiment, upstream, warm, code)


def run_facts(spec: SearchSpec, prepared: PreparedSearch, share: Share, directory: SearchDir) -> RunFacts:
    """Return what the search's MLflow runs have in common: of a new run, or as its directory stores it."""
    if prepared.resumed:
        return known_facts(prepared.experiment, directory)
    data, code = prepared.data, prepared.code
    tags = {
        "workload": spec.workload.name,
        "search": spec.name,
        "objective": ",".join(spec.goal.objectives),
        "objective_version": data.objective_version,
        **prepared.upstream.tags,
        **({"workload_code": code.commit} if code else {}),
        **spec.tags,
    }
    facts = new_facts(tags, data.fingerprint, "\n".join(data.summary))
    note = opening_note(command_line(), facts.source)
    params = spec.as_params() | share.as_dict() | {"race": spec.budget.race}
    own = new_run(spec.name, directory.token(), params, facts, note)
    if prepared.experiment:
        facts = create_search_run(prepared.experiment, own, facts)
    method = {
        "sampler": spec.sampler,
        "scheduler": spec.scheduler,
        "time_limit": spec.budget.time_limit,
        **_race_of(spec),
    }
    directory.describe(
        spec,
        data,
        facts=asdict(facts),
        own_run=asdict(own),
        branches=prepared.upstream.runs,
        method=method,
        commit=code_state().commit,
        **_word_of(spec.workload),
    )
    return facts


def _race_of(spec: SearchSpec) -> dict[str, Any]:
    """Return what a later process needs to know of the race, as the search's directory stores it."""
    return {"race": spec.budget.race, "min_effect": spec.budget.min_effect}


def _code_of(workload: Workload) -> CodeState | None:
    """Return which state of the user's code a workload from outside is; None: it is a carried one."""
    if not _word_of(workload):
        return None
    try:
        return state_of_file(file_of(workload.word) or Path(inspect.getfile(workload.training)))
    except (OSError, TypeError):  # of a notebook
        return CodeState("in no file")


def _word_of(workload: Workload) -> dict[str, str]:
    """Return how a search's directory names a workload from outside; a carried one is found by its name."""
    return {"word": workload.word} if workload.word != workload.name else {}


def known_facts(experiment: Experiment | None, directory: SearchDir) -> RunFacts:
    """Return the facts that a directory stores; create the search's own run where a server receives it first.

    Raises
    ------
    TrackingError
        The server refused it, or is away.
    """
    about = directory.description()
    facts = RunFacts(**about["facts"])
    if experiment and not facts.run_id:
        facts = create_search_run(experiment, OwnRun(**about["own_run"]), facts)
        directory.set(facts=asdict(facts))
    return facts


def _experiment(spec: SearchSpec, directory: SearchDir, resumed: bool, reporter: ConsoleReporter) -> Experiment | None:
    """Open the workload's experiment. A new search needs a server that answers; a resumed one does not.

    None: no server is contacted. A search that was started so stays so until a server is named.
    """
    site, folder = spec.site, directory.storage.folder
    experiment_id = directory.description()["facts"]["experiment_id"] if resumed else ""
    if site.offline or (resumed and not experiment_id and site.server is None):
        return None
    try:
        return open_experiment(site.server, folder, spec.workload.name)
    except TrackingError as error:
        if not resumed:
            raise
        reporter.print_line(f"warning  {error}\nwarning  the search goes on; what it logs waits in its journal")
        client = client_of(site.server, folder)
        return Experiment(client, experiment_id) if experiment_id else None


def _upstream(
    spec: SearchSpec, data: Data, experiment: Experiment | None, directory: SearchDir, resumed: bool
) -> UpstreamModels:
    """Find the models that the workload builds on: those named now, or else those of the search that is resumed."""
    before: Sequence[str] = directory.description()["branches"] if resumed else ()
    names = spec.method.upstream or before
    return find_upstream_models(experiment, directory.storage, spec.workload.builds_on, names, data.fingerprint)


def _warm(spec: SearchSpec, data: Data, directory: SearchDir, experiment: Experiment | None) -> WarmStart:
    """Read trials of earlier searches for a new study; a resumed one has them stored beside it."""
    if not spec.method.warm_from or read_study(directory.path, spec.name) is not None:
        return WarmStart()
    return warm_start(spec, data, directory.storage, experiment)
