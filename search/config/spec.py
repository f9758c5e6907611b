"""One settled plan out of the user's flags and the workload's own idea of a search, with every mistake found early."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from search.config.settings import Budget, Method, Site
from search.errors import UsageError
from search.tuning.optuna_searcher import LEARNS_FROM_OTHERS, Space
from search.workloads import Defaults, Workload
from trainables.base.objectives import Goal


@dataclass(frozen=True)
class Plan:
    """What one search will do."""

    workload: Workload
    name: str
    space: Space
    trials: int  # sampled ones
    trials_asked: bool  # the user has said how many
    added: bool  # they come on top of those that a search of this name has
    epochs: int
    goal: Goal
    scheduler: str
    demo: bool
    drawn: bool = True  # with figures that compare its trials, and a page, at its end

    @property
    def samples(self) -> int:
        """Trials in all."""
        return self.trials + len(self.space.presets)


def new_name(what: str) -> str:
    """A name for a search that its user did not name."""
    return f"{what}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def make_plan(workload: Workload, budget: Budget, method: Method, site: Site, *, demo: bool) -> Plan:
    """Settle what the flags leave open.

    Raises
    ------
    UsageError
        An objective, preset or hyperparameter that does not exist or does not fit; no trial at all.
    """
    defaults = workload.demo if demo else workload.full
    plan = Plan(
        workload=workload,
        name=site.name or new_name(workload.name),
        space=_space(workload, method, defaults),
        trials=defaults.trials if budget.trials is None else int(budget.trials),
        trials_asked=budget.trials is not None,
        added=(budget.trials or "").startswith("+"),
        epochs=budget.epochs or defaults.epochs,
        goal=_goal(workload, method),
        scheduler=method.scheduler or ("none" if "," in (method.objective or "") else "asha"),
        demo=demo,
    )
    if method.scheduler == "pbt" and budget.max_concurrent is not None:
        raise UsageError(
            "--max-concurrent does not go with --scheduler pbt: its population takes turns on all CPUs and GPUs that "
            "there are. Leave it out, or raise --cpus-per-trial or --gpus-per-trial."
        )
    if site.resume != "no" and site.name is None:
        raise UsageError(f"--resume {site.resume}: say with --name which search is to go on.")
    if plan.added and site.name is None:
        raise UsageError(f"--trials {budget.trials}: say with --name which search they are to be added to.")
    if method.warm_from and method.sampler not in LEARNS_FROM_OTHERS:
        raise UsageError(
            f"--warm-from does nothing for --sampler {method.sampler}, which learns from no trials but its own. "
            f"Choose {' or '.join(LEARNS_FROM_OTHERS)}, or leave --warm-from out."
        )
    if plan.samples == 0:
        raise UsageError("--trials 0 and no presets: there is nothing to run. Ask for one of them at least.")
    return plan


def _goal(workload: Workload, method: Method) -> Goal:
    names = [name.strip() for name in (method.objective or next(iter(workload.objectives))).split(",")]
    for name in names:
        if name not in workload.objectives:
            raise unknown("objective", name, workload.objectives)
    if len(set(names)) < len(names):
        raise UsageError(f"--objective {method.objective}: names an objective twice.")
    if len(names) > 1 and method.sampler == "cmaes":
        raise UsageError("--sampler cmaes knows one objective only. Choose tpe, gp, random or qmc for several.")
    limits = {name: limit for name, limit in workload.limits.items() if name not in names}
    limits |= dict(_limit(workload, pair) for pair in method.limit)
    limits = {name: limit for name, limit in limits.items() if limit != math.inf}
    return Goal({name: workload.objectives[name] for name in names}, limits)


def _limit(workload: Workload, pair: str) -> tuple[str, float]:
    name, equals, text = pair.partition("=")
    known = [*workload.limits, *(name for name in workload.objectives if workload.objectives[name] == "min")]
    if name not in known:
        raise unknown("metric to limit", name, tuple(dict.fromkeys(known)))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not equals or not value > 0:
        raise UsageError(f"--limit {pair}: expected NAME=VALUE with a value above 0, or inf, as in --limit {name}=0.02")
    return name, value


def _space(workload: Workload, method: Method, defaults: Defaults) -> Space:
    config = workload.config
    chosen = _held(workload, method.set)
    for name in method.also:
        if name not in workload.optional:
            raise unknown("optional hyperparameter", name, workload.optional)
        if name in chosen:
            raise UsageError(f"--also {name} searches it and --set {name}=... holds it: leave one of them out.")
    optional = {name: config.model_fields[name].default for name in workload.optional} | dict(defaults.held)
    freed = {name: value for name, value in optional.items() if name not in method.also}
    return Space(
        suggest=workload.suggest,
        held=freed | chosen,
        preset_held=optional | chosen,
        presets=_presets(workload, method.presets, defaults),
    )


def _presets(workload: Workload, asked: str | None, defaults: Defaults) -> Mapping[str, Mapping[str, Any]]:
    names = {None: defaults.presets, "all": tuple(workload.presets), "none": ()}.get(asked)
    if names is None:
        names = tuple(name.strip() for name in str(asked).split(","))
    for name in names:
        if name not in workload.presets:
            raise unknown("preset", name, workload.presets)
    return {name: workload.presets[name] for name in names}


def _held(workload: Workload, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Values of --set KEY=VALUE, read as the workload's configuration reads them."""
    held: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: expected KEY=VALUE, as in --set hidden_dim=16")
        if name in ("epochs", "seed"):
            raise UsageError(f"--set {pair}: use --{name} instead")
        if name not in workload.config.model_fields:
            raise unknown("hyperparameter", name, workload.config.model_fields)
        try:
            held[name] = getattr(workload.config.model_validate({name: text}), name)
        except ValidationError as error:
            raise UsageError(f"--set {pair}: {error.errors()[0]['msg']}") from error
    return held


def unknown(what: str, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> UsageError:
    """Says what there is, and what was perhaps meant."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.45)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"There is no {what} {name!r}.{hint} There are: {', '.join(known) or 'none'}.")
