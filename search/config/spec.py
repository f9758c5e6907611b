"""Settle everything that was asked of one search, once, with every mistake found early: the search specification."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.config.choice import choose_sampler, choose_scheduler
from search.config.settings import WARM_START_SAMPLERS, Budget, Method, SearchFlags, Site, seconds
from search.config.space import Space
from search.errors import UsageError
from search.workload import Data, Defaults, Workload
from trainables.base.objectives import Constraint, Goal, Kind, stored_constraints
from trainables.data.files import DataSettings


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """Everything that one search is asked to do. What it finds open or done already is in the ``SearchContext``."""

    workload: Workload
    name: str
    data: DataSettings
    budget: Budget
    method: Method
    site: Site
    space: Space
    goal: Goal
    trials: int  # sampled ones, the presets come on top
    epochs: int  # of a whole trial
    scheduler: str
    sampler: str = "tpe"
    demo: bool = False  # the carried sample, with a small budget
    figures: bool = True  # at its end: figures that compare trials, and the report page
    json: Path | None = None  # where the leaderboard is written as well
    tags: Mapping[str, str] = field(default_factory=dict)  # of its MLflow runs, beside the usual ones

    @property
    def samples(self) -> int:
        """Number of trials in all."""
        return self.trials + len(self.space.presets)

    @property
    def most_concurrent(self) -> int:
        """Number of trials that never more than run at a time, however large the cluster is."""
        return min(self.budget.max_concurrent or self.samples, self.samples)

    @property
    def seed(self) -> int:
        """Seed of the sampler; trial n trains with ``seed + n``."""
        return self.budget.seed

    @property
    def trials_asked(self) -> bool:
        """Whether the user gave the number of trials."""
        return self.budget.trials is not None

    @property
    def trials_added(self) -> bool:
        """Whether the trials come on top of those that a search of this name has."""
        return (self.budget.trials or "").startswith("+")

    @property
    def time_limit_s(self) -> float | None:
        """Seconds after which all trials are stopped."""
        return seconds(self.budget.time_limit) if self.budget.time_limit else None

    def identity(self, data: Data | None) -> dict[str, Any]:
        """Return what a resumed search must have in common with the one that was started, as its directory stores it.

        Parameters
        ----------
        data : Data, optional
            None: only what the flags say.
        """
        of_data = {"objective version": data.objective_version, "data": data.fingerprint} if data else {}
        return {
            "workload": self.workload.name,
            "objectives": dict(self.goal.objectives),
            "limits": stored_constraints(self.goal.constraints),
            "epochs": self.epochs,
            **of_data,
            **self.space.as_dict(),
        }

    def as_params(self) -> dict[str, Any]:
        """Return what a person compares between searches. It holds no address and no URI because of their passwords."""
        return {
            "trials": self.trials,
            "epochs": self.epochs,
            "seed": self.seed,
            "retries": self.budget.retries,
            "time_limit": self.budget.time_limit,
            "sampler": self.sampler,
            "warm_from": ", ".join(self.method.warm_from) or None,
            "scheduler": self.scheduler,
            "limits": ", ".join(map(_as_param, self.goal.constraints)),
            "presets": ", ".join(self.space.presets) or "none",
            "searched": ", ".join(sorted(self.space.distributions)),
            "held": ", ".join(f"{name}={value}" for name, value in self.space.fixed.items()),
            **self.data.model_dump(mode="json", exclude={"data", "holdout", "validation"}),
        }


def new_name(what: str) -> str:
    """Make a name for a search that its user did not name."""
    return f"{what}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def with_name(flags: SearchFlags[Any], what: str) -> SearchFlags[Any]:
    """Settle the name of a new search of this workload or chain before it begins, because its resume needs it."""
    needs_name = flags.site.resume != "no" or (flags.budget.trials or "").startswith("+")  # which refuse to go without
    if flags.site.name or needs_name:
        return flags
    return replace(flags, site=flags.site.model_copy(update={"name": new_name(what)}))


def make_spec(workload: Workload, flags: SearchFlags[Any]) -> SearchSpec:
    """Settle what the flags leave open.

    Raises
    ------
    UsageError
        An objective, preset or hyperparameter does not exist or does not fit; there is no trial at all.
    """
    budget, method, site = flags.budget, flags.method, flags.site
    demo = not flags.data.data
    defaults = workload.demo if demo else workload.full
    goal = _goal(workload, method)
    trials = defaults.trials if budget.trials is None else int(budget.trials)
    spec = SearchSpec(
        workload=workload,
        name=site.name or new_name(workload.name),
        data=flags.data,
        budget=budget,
        method=method,
        site=site,
        space=_space(workload, method, defaults),
        goal=goal,
        trials=trials,
        epochs=budget.epochs or defaults.epochs,
        scheduler=choose_scheduler(method, len(goal.objectives), trials),
        sampler=choose_sampler(method, len(goal.objectives), trials),
        demo=demo,
        json=flags.json,
    )
    _refuse_contradictions(spec)
    return spec


def _refuse_contradictions(spec: SearchSpec) -> None:
    budget, method, site = spec.budget, spec.method, spec.site
    if method.scheduler == "pbt" and budget.max_concurrent is not None:
        raise UsageError(
            "--max-concurrent does not go with --scheduler pbt: its population takes turns on all CPUs and GPUs that "
            "there are. Leave it out, or raise --cpus-per-trial or --gpus-per-trial."
        )
    if site.resume != "no" and site.name is None:
        raise UsageError(f"--resume {site.resume}: say with --name which search is to go on.")
    if spec.trials_added and site.name is None:
        raise UsageError(f"--trials {budget.trials}: say with --name which search they are to be added to.")
    if method.warm_from and spec.sampler not in WARM_START_SAMPLERS:
        raise UsageError(
            f"--warm-from does nothing for --sampler {spec.sampler}, which learns from no trials but its own. "
            f"Choose {' or '.join(WARM_START_SAMPLERS)}, or leave --warm-from out."
        )
    if method.upstream and not spec.workload.builds_on:
        raise UsageError(f"--upstream: {spec.workload.name} builds on no other model. Leave it out.")
    if spec.samples == 0:
        raise UsageError("--trials 0 and no presets: there is nothing to run. Ask for one of them at least.")


def _goal(workload: Workload, method: Method) -> Goal:
    names = [name.strip() for name in (method.objective or next(iter(workload.objectives))).split(",")]
    for name in names:
        if name not in workload.objectives:
            raise unknown("objective", name, workload.objectives)
    if len(set(names)) < len(names):
        raise UsageError(f"--objective {method.objective}: names an objective twice.")
    if len(names) > 1 and method.sampler == "cmaes":
        raise UsageError("--sampler cmaes knows one objective only. Choose tpe, gp, random or qmc for several.")
    directions = workload.directions
    return Goal({name: directions[name] for name in names}, _constraints(workload, method, names), directions)


def _constraints(workload: Workload, method: Method, objectives: list[str]) -> tuple[Constraint, ...]:
    """Return the workload's constraints, but for those on objectives, and in their place or beside them the user's."""
    own = (constraint for constraint in workload.constraints if constraint.metric not in objectives)
    kept = {constraint.key: constraint for constraint in own}
    for word in method.constraint:
        for constraint in _read_constraint(workload, word):
            kept.pop(constraint.key, None)
            if math.isfinite(constraint.bound):
                kept[constraint.key] = constraint
    return tuple(kept.values())


def _read_constraint(workload: Workload, word: str) -> list[Constraint]:
    """Read one word of --constraint; an infinite bound stands for none, and NAME=inf for none of both kinds."""
    match = re.fullmatch(r"\s*([^<>=]+?)\s*(<=|>=|=)\s*(.+?)\s*", word)
    name = match[1] if match else re.split("[<>=]", word)[0].strip()
    known = (*workload.objectives, *workload.columns, *workload.more_is_better)
    known = tuple(dict.fromkeys((*(one.metric for one in workload.constraints), *known)))
    if name not in known:
        raise unknown("metric to constrain", name, known)
    bound = _number(match[3]) if match else math.nan
    if match and match[2] == "=" and math.isinf(bound):
        return [Constraint(name, math.inf), Constraint(name, -math.inf, ">=")]
    more = workload.directions.get(name) == "max"
    if match and match[2] == "=" and more:
        raise UsageError(
            f"--constraint {word}: NAME=VALUE is a largest value, and of {name} more is better. "
            f"Write '{name}>={match[3]}' for the smallest value, or '{name}<={match[3]}' for the largest."
        )
    kind: Kind = ">=" if match and match[2] == ">=" else "<="
    if math.isnan(bound) or bound == (math.inf if kind == ">=" else -math.inf):
        example = f"'{name}>=0.9'" if more else f"{name}=0.02"
        raise UsageError(
            f"--constraint {word}: expected NAME=VALUE, NAME<=VALUE or NAME>=VALUE with a number, or NAME=inf for "
            f"none, as in --constraint {example}; quotes keep a shell from reading < and >."
        )
    return [Constraint(name, bound, kind)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _as_param(constraint: Constraint) -> str:
    """Write a constraint as MLflow shows it: a largest value as ever, bias=0.02."""
    mark = "=" if constraint.kind == "<=" else ">="
    return f"{constraint.metric}{mark}{constraint.bound:g}"


def _space(workload: Workload, method: Method, defaults: Defaults) -> Space:
    config = workload.config
    chosen = _fixed(workload, method.set)
    for name in method.free:
        if name not in workload.optional:
            raise unknown("optional hyperparameter", name, workload.optional)
        if name in chosen:
            raise UsageError(f"--free {name} searches it and --set {name}=... fixes it: leave one of them out.")
    optional = {name: config.model_fields[name].default for name in workload.optional} | dict(defaults.fixed)
    fixed = {name: value for name, value in optional.items() if name not in method.free}
    return Space(
        suggest=workload.suggest,
        fixed=fixed | chosen,
        preset_fixed=optional | chosen,
        presets=_presets(workload, method.presets, defaults),
    )


def _presets(workload: Workload, asked: str | None, defaults: Defaults) -> Mapping[str, Mapping[str, Any]]:
    every = tuple(workload.presets)
    own = every if defaults.presets is None else defaults.presets
    names = {None: own, "all": every, "none": ()}.get(asked)
    if names is None:
        names = tuple(name.strip() for name in str(asked).split(","))
    for name in names:
        if name not in workload.presets:
            raise unknown("preset", name, workload.presets)
    return {name: workload.presets[name] for name in names}


def _fixed(workload: Workload, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read the values of --set KEY=VALUE as the workload's configuration reads them."""
    fixed: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: expected KEY=VALUE, as in --set hidden_dim=16")
        if name in ("epochs", "seed"):
            raise UsageError(f"--set {pair}: use --{name} instead")
        if name not in workload.config.model_fields:
            raise unknown("hyperparameter", name, workload.config.model_fields)
        try:
            fixed[name] = getattr(workload.config.model_validate({name: text}), name)
        except ValidationError as error:
            raise UsageError(f"--set {pair}: {error.errors()[0]['msg']}") from error
    return fixed


def unknown(what: str, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> UsageError:
    """Make an error that says what there is, and what was perhaps meant."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.45)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"There is no {what} {name!r}.{hint} There are: {', '.join(known) or 'none'}.")
