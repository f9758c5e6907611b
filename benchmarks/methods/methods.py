"""The methods that can be compared, by name."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from benchmarks.methods.others import PlainOptuna, Random, Ray
from benchmarks.methods.ours import Ours, scheduler_of, spec_of
from benchmarks.methods.replay import Replicate
from benchmarks.methods.variants import WORDS


@dataclass(frozen=True)
class _Maker:
    words: str
    make: Callable[[Replicate], Any]


_OTHERS: dict[str, _Maker] = {
    "ray": _Maker("Ray's OptunaSearch and ASHAScheduler as shipped", Ray),
    "optuna-sh": _Maker(
        "Optuna's TPESampler and SuccessiveHalvingPruner as shipped",
        lambda one: PlainOptuna(
            one, optuna.samplers.TPESampler(seed=one.seed), optuna.pruners.SuccessiveHalvingPruner()
        ),
    ),
    "optuna-hyperband": _Maker(
        "Optuna's TPESampler and HyperbandPruner as shipped",
        lambda one: PlainOptuna(
            one,
            optuna.samplers.TPESampler(seed=one.seed),
            optuna.pruners.HyperbandPruner(max_resource=one.table.epochs),
        ),
    ),
    "random": _Maker("random points, each trained to its end", lambda one: Random(one, FIFOScheduler())),
    "random+ray-asha": _Maker(
        "random points, Ray's ASHAScheduler as shipped",
        lambda one: Random(one, ASHAScheduler(max_t=one.table.epochs)),
    ),
}
KNOWN = {
    "ours": "our searcher and scheduler with the defaults of a search",
    "ours:SAMPLER+SCHEDULER": "the same with other ones by name; SCHEDULER also epoch:FIRST:ETA, percent:FIRST:ETA",
    "ours:SAMPLER,WORD,WORD+SCHEDULER": "a variant of TPE; words: " + ", ".join(WORDS),
    **{name: maker.words for name, maker in _OTHERS.items()},
    "METHOD@any, METHOD@whole": "recommends any trial, stopped ones too, or only those that came to their end",
    "random+SCHEDULER": "random points with a scheduler of ours; epoch:1:8:one stops seven of eight at epoch 1",
}


def make_method(name: str, replicate: Replicate) -> Any:
    """Make a method of that name for one replicate; nothing in it depends on another replicate."""
    name, _, scope = name.partition("@")
    method = _make(name, replicate)
    if scope:  # ``@any`` recommends the best last value of any trial, as Ray does; ``@whole`` that of whole trainings
        method.whole_only = {"any": False, "whole": True}[scope]
    return method


def _make(name: str, replicate: Replicate) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.ERROR)
    np.random.seed(replicate.seed % 2**32)  # noqa: NPY002 - Ray's ASHA draws its bracket from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in _OTHERS:
            return _OTHERS[name].make(replicate)
        if name == "ours":
            return Ours(replicate, "auto", "auto")
        if found := re.fullmatch(r"ours:([\w,=-]+)\+([\w:.]+)", name):
            return Ours(replicate, found[1], found[2])
        if found := re.fullmatch(r"random\+([\w:.]+)", name):
            return Random(replicate, scheduler_of(found[1], spec_of(replicate, "random", found[1])))
    raise SystemExit(f"--methods {name}: unknown. There are: {', '.join(KNOWN)}")
