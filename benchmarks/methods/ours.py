"""Our searcher, recorder and schedulers, wired as in a search of this platform."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import optuna
from ray.tune.schedulers import TrialScheduler

from benchmarks.methods.replay import Replicate
from benchmarks.methods.tune_loop import LATENCY_S, LOSS, TuneLoop, start_points
from benchmarks.methods.variants import variant_of
from search.config.choice import choose_sampler, choose_scheduler
from search.config.settings import Budget, Method, Site
from search.config.space import Space
from search.config.spec import SearchSpec
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.recorder import Recorder
from search.tuning.schedulers import Asha, make_scheduler
from trainables.base.objectives import Goal
from trainables.data.files import DataSettings

_MOST_TRIALS = 100_000


class Ours(TuneLoop):
    """Our searcher, recorder and scheduler, as a search of this platform wires them."""

    def __init__(self, replicate: Replicate, sampler: str, scheduler: str) -> None:
        name, _, variant = sampler.partition(",")
        spec = spec_of(replicate, name, scheduler)
        words = f"{spec.sampler},{variant}" if variant else spec.sampler
        study = optuna.create_study(study_name="bench", direction="minimize", sampler=variant_of(words, spec.seed))
        searcher = OptunaSearcher(study, spec)
        for point in start_points(replicate):
            study.enqueue_trial(point)
        searcher._left = _MOST_TRIALS  # the replay ends by compute
        super().__init__(searcher, scheduler_of(spec.scheduler, spec), [Recorder([searcher])], nested=True)
        self.latency_s = LATENCY_S[spec.sampler]


def spec_of(replicate: Replicate, sampler: str, scheduler: str) -> SearchSpec:
    """Return the specification of a search of the table, as the searcher and schedulers read it."""
    table, setting = replicate.table, replicate.setting
    workload: Any = SimpleNamespace(name=table.name, mutable=())
    trials = (
        round(setting.budget) if setting.by_trials else _MOST_TRIALS
    )  # whoever has an amount of compute asks for many
    left_open = Method(sampler=cast(Any, sampler))
    return SearchSpec(
        workload=workload,
        name=table.name,
        data=cast(DataSettings, None),
        budget=Budget(seed=replicate.seed),
        method=left_open,
        site=Site(name="bench"),
        space=Space(suggest=table.suggest, fixed={}, preset_fixed={}, presets=replicate.presets),
        goal=Goal({LOSS: "min"}),
        trials=trials,
        epochs=table.epochs,
        scheduler=choose_scheduler(left_open, 1, trials) if scheduler == "auto" else scheduler,
        sampler=choose_sampler(left_open, 1, trials),
    )


def scheduler_of(words: str, spec: SearchSpec) -> TrialScheduler:
    """Return our scheduler of that name, or its class with the rungs of ``epoch:FIRST:ETA[:one]``, ``percent:...``."""
    clock, *numbers = words.split(":")
    if clock not in ("epoch", "percent"):
        return make_scheduler(spec)
    first, eta = int(numbers[0]), float(numbers[1])
    last = spec.epochs if clock == "epoch" else 100
    most = first if "one" in numbers else last
    scheduler = Asha(
        time_attr="epoch" if clock == "epoch" else "progress_percent",
        max_t=max(most, first),
        grace_period=first,
        reduction_factor=eta,
        stop_last_trials=False,
    )
    if most < last:
        scheduler._max_t = last  # the one rung is made; whoever passes it trains to the end
    return scheduler
