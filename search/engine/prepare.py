"""What a search needs before its first trial: data, MLflow, models that it builds on, earlier searches, its own run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.config.flags import Command
from search.config.provenance import command_line, git_commit
from search.config.settings import Site
from search.config.spec import Plan
from search.engine.nearby import find_nearby, is_nearby
from search.engine.upstream_models import UpstreamModels, find_upstream_models
from search.engine.warm_start import WarmStart, warm_start
from search.errors import TrackingError, UsageError
from search.reporting.mlflow_notes import opening_note
from search.reporting.summary import Summary
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tracking.client import Experiment, client_of, create_search_run, open_experiment
from search.tracking.run_info import OwnRun, RunFacts, new_facts, new_run
from search.tuning.optuna_searcher import read_study
from search.tuning.resources import Share
from search.workloads import Data


@dataclass(frozen=True)
class PreparedSearch:
    """Everything that is settled before Ray is asked for anything."""

    resumed: bool
    known: list[TrialRecord]  # of an earlier process
    data: Data
    experiment: Experiment | None  # None: no server is asked
    branches: UpstreamModels
    warm: WarmStart


def prepare_search(
    plan: Plan, command: Command[Any], folder: SearchDir, resumed: bool, summary: Summary
) -> PreparedSearch:
    """Load the data and find all that the search builds on; a search that goes on must be the one that began."""
    site, storage = command.site, Storage.of(command.site)
    data = plan.workload.load_data(command.data, (site.cache or storage.folder / "cache").resolve())
    experiment = _experiment(plan, site, folder, resumed, summary)
    before = folder.description()["branches"] if resumed else ()
    branches = _branches(plan, command, data, experiment, before)
    if plan.workload.join:
        data = plan.workload.join(data, branches.models)
    warm = _warm(plan, command, data, folder, experiment)
    if resumed:
        folder.require_same(plan, data)
        folder.set(trials=plan.trials)
    lines, warnings = [*data.summary, *branches.lines, *warm.lines], [*branches.warnings, *warm.warnings]
    summary.announce(plan, command.budget, command.method, lines, warnings)
    summary.tell_tracking(site, asked=experiment is not None)
    return PreparedSearch(resumed, folder.history.records() if resumed else [], data, experiment, branches, warm)


def run_facts(
    opened: PreparedSearch,
    plan: Plan,
    command: Command[Any],
    share: Share,
    folder: SearchDir,
    more_tags: Mapping[str, str],
) -> RunFacts:
    """What the search's MLflow runs have in common: of a new run, or as its folder keeps it."""
    if opened.resumed:
        return known_facts(opened.experiment, folder)
    tags = {
        "search": plan.name,
        "objective": ",".join(plan.goal.objectives),
        "objective_version": opened.data.objective_version,
        **opened.branches.tags,
        **more_tags,
    }
    tags = {"workload": plan.workload.name, **tags}
    facts = new_facts(tags, opened.data.fingerprint, "\n".join(opened.data.summary))
    note = opening_note(command_line(), facts.source)
    own = new_run(plan.name, folder.token(), _settings(plan, command, share), facts, note)
    if opened.experiment:
        facts = create_search_run(opened.experiment, own, facts)
    method = {"sampler": command.method.sampler, "scheduler": plan.scheduler, "time_limit": command.budget.time_limit}
    folder.describe(
        plan,
        opened.data,
        command.data,
        facts=asdict(facts),
        own_run=asdict(own),
        branches=opened.branches.runs,
        method=method,
        commit=git_commit(),
    )
    return facts


def known_facts(experiment: Experiment | None, folder: SearchDir) -> RunFacts:
    """As a folder keeps them; of a search that no server has heard of, its own run is made now, where one is asked.

    Raises
    ------
    TrackingError
        The server refused it, or is away.
    """
    about = folder.description()
    facts = RunFacts(**about["facts"])
    if experiment and not facts.run_id:
        facts = create_search_run(experiment, OwnRun(**about["own_run"]), facts)
        folder.set(facts=asdict(facts))
    return facts


def _experiment(plan: Plan, site: Site, folder: SearchDir, resumed: bool, summary: Summary) -> Experiment | None:
    """The workload's experiment. A new search needs a server that answers; one that goes on does not.

    None: no server is asked. A search that began so goes on so until one is named.
    """
    experiment_id = folder.description()["facts"]["experiment_id"] if resumed else ""
    if site.silent or (resumed and not experiment_id and site.server is None):
        return None
    try:
        return open_experiment(site.server, Storage.of(site).folder, plan.workload.name)
    except TrackingError as error:
        if not resumed:
            raise
        summary.say(f"warning  {error}\nwarning  the search goes on; what it logs waits in its journal")
        client = client_of(site.server, Storage.of(site).folder)
        return Experiment(client, experiment_id) if experiment_id else None


def _branches(
    plan: Plan, command: Command[Any], data: Data, experiment: Experiment | None, before: Sequence[str]
) -> UpstreamModels:
    """The models that the workload builds on: those named now, or else those of the search that goes on."""
    named, builds_on, storage = command.method.branches, plan.workload.builds_on, Storage.of(command.site)
    if named and not plan.workload.builds_on:
        raise UsageError(f"--branches: {plan.workload.name} builds on no other model. Leave it out.")
    names = named or before
    if experiment is None or any(is_nearby(storage, name) for name in names):
        return find_nearby(storage, builds_on, names, data.fingerprint)
    return find_upstream_models(experiment.client, builds_on, names, data.fingerprint)


def _warm(plan: Plan, command: Command[Any], data: Data, folder: SearchDir, experiment: Experiment | None) -> WarmStart:
    """Trials of earlier searches, for a new study; one that goes on has its own beside it."""
    method = command.method
    if not method.warm_from or read_study(folder.path, plan.name) is not None:
        return WarmStart()
    return warm_start(method.warm_from, plan, method.sampler, data, Storage.of(command.site), experiment)


def _settings(plan: Plan, command: Command[Any], share: Share) -> dict[str, Any]:
    """What a person compares between searches. No address and no URI: those may hold passwords."""
    budget, method = command.budget, command.method
    return {
        "trials": plan.trials,
        "epochs": plan.epochs,
        "seed": budget.seed,
        "retries": budget.retries,
        "time_limit": budget.time_limit,
        **share.as_dict(),
        "sampler": method.sampler,
        "warm_from": ", ".join(method.warm_from) or None,
        "scheduler": plan.scheduler,
        "limits": ", ".join(f"{name}={limit:g}" for name, limit in plan.goal.limits.items()),
        "presets": ", ".join(plan.space.presets) or "none",
        "searched": ", ".join(sorted(plan.space.distributions())),
        "held": ", ".join(f"{name}={value}" for name, value in plan.space.held.items()),
        **command.data.model_dump(mode="json", exclude={"data", "holdout"}),
    }
