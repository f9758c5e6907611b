"""Laws of one training run: it trains, counts its epochs, ends, and reports numbers that depend on its seed alone."""

from __future__ import annotations

import math
from typing import Any

from search.diagnostics.contract import given
from search.diagnostics.contract.data import DATA
from search.diagnostics.contract.law import LawBroken, law
from search.diagnostics.contract.space import POINTS
from search.diagnostics.contract.subject import SEED, Subject
from search.diagnostics.contract.values import differences, places, same
from trainables.base.errors import TrainingDiverged

RUNS, SEEDED = "a-run-trains-and-validates", "the-seed-decides-all"
NUMBERS = "metrics-are-numbers"
COUNTED = "each-epoch-is-counted"


@law(
    "A run can be built at a point of the space, trained and validated; both return dicts.",
    cause="a method returns nothing, or the learning rates of the space are too large for any run",
    remedy="return a dict of names and numbers from train_epoch() and validate()",
    after=(POINTS, DATA),
)
def a_run_trains_and_validates(subject: Subject) -> None:
    try:
        results = subject.first_epoch
    except TrainingDiverged as error:
        raise LawBroken(
            f"runs diverge at each point that was tried: {error}",
            "the ranges of the space are too wide, or TrainingDiverged is raised too early",
            "narrow the ranges of the learning rates, or look at the numbers that TrainingDiverged carries",
        ) from error
    for method, result in zip(("train_epoch", "validate"), results, strict=True):
        if not isinstance(result, dict):
            raise LawBroken(f"{method}() returns {type(result).__name__}, not a dict")


@law(
    "`epoch` counts the finished epochs: 0 at the beginning, one more after each train_epoch().",
    cause="train_epoch() does not increase self.epoch, or __init__() does not set it to 0",
    remedy="set self.epoch = 0 in __init__(), and self.epoch += 1 at the end of train_epoch()",
    after=(RUNS,),
)
def each_epoch_is_counted(subject: Subject) -> None:
    training = subject.training()
    for expected in range(3):
        if training.epoch != expected:
            raise LawBroken(f"epoch is {training.epoch} after {expected} calls of train_epoch()")
        training.train_epoch()


@law(
    "A run is finished after at most the epochs of its configuration; until then progress never falls, from 0 to 1.",
    cause="finished or progress is overridden, and counts differently from self.epoch",
    remedy="leave both as Training has them; progress may stay 0 for a while where scores say little at first",
    after=(COUNTED,),
)
def a_run_ends_with_its_last_epoch(subject: Subject) -> None:
    training = subject.training()
    seen = [float(training.progress)]
    if training.finished:
        raise LawBroken("the run is finished before its first epoch")
    while not training.finished:
        if training.epoch >= subject.epochs:
            raise LawBroken(f"the run is not finished after its {subject.epochs} epochs")
        training.train_epoch()
        seen.append(float(training.progress))
    if seen != sorted(seen) or (seen[0], seen[-1]) != (0.0, 1.0):
        raise LawBroken(f"progress is {', '.join(f'{one:g}' for one in seen)}")


@law(
    "Metrics have names that are texts and values that are single numbers.",
    cause="a metric is None, a text, or an array or tensor with several elements",
    remedy="return one number a metric: the mean of a loss over its batches, for example",
    after=(RUNS,),
)
def metrics_are_numbers(subject: Subject) -> None:
    for name, value in subject.metrics.items():
        if not isinstance(name, str):
            raise LawBroken(f"the name of a metric is {name!r}, not a text")
        if not _is_number(value):
            raise LawBroken(f"metric {name!r} is {_short(value)}, not a number")


def _is_number(value: Any) -> bool:
    if isinstance(value, str | bytes) or getattr(value, "ndim", 0) > 0:
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 60 else f"{text[:57]}..."


@law(
    "Metrics are finite.",
    cause="a mean is taken over no events, a logarithm or a ratio over zero, or a loss has overflowed",
    remedy="find the first such number, for example with torch.autograd.set_detect_anomaly(True); where a run cannot "
    "recover raise TrainingDiverged",
    after=(NUMBERS,),
)
def metrics_are_finite(subject: Subject) -> None:
    bad = {name: value for name, value in subject.metrics.items() if not math.isfinite(value)}
    if bad:
        raise LawBroken(", ".join(f"{name} = {float(value)}" for name, value in bad.items()) + " in the first epoch")


@law(
    "Every objective, constraint and column of the leaderboard is a metric that a trial reports.",
    cause="the name in `objectives`, `constraints` or `columns` differs from the key in validate()'s dict",
    remedy="give both the same name",
    after=(RUNS,),
)
def what_is_declared_is_reported(subject: Subject) -> None:
    if absent := [name for name in given.declared(subject.workload) if name not in subject.metrics]:
        raise LawBroken(f"{', '.join(absent)} is declared; reported are {', '.join(map(str, subject.metrics))}")


@law(
    "Two runs with one seed are equal bit for bit, in whatever state the process is.",
    cause="initial weights, dropout, the order of events or noise come from a generator that nobody seeded",
    remedy="seed in __init__() from config.seed: generators of the run's own (torch.Generator, numpy.random."
    "default_rng), or torch.manual_seed(config.seed) where layers such as Dropout draw from the one of the process",
    after=(RUNS,),
)
def the_seed_decides_all(subject: Subject) -> None:
    epochs = 2
    first = subject.trained(epochs)
    weights, numbers = first.weights(), first.validate()
    second = subject.trained(epochs)
    if found := differences(weights, second.weights()):
        raise LawBroken(f"after {epochs} epochs two runs with seed {SEED} differ in the weights {places(found)}")
    if found := differences(numbers, second.validate()):
        raise LawBroken(f"after {epochs} epochs two runs with seed {SEED} and equal weights differ in {places(found)}")


@law(
    "A run with another seed is another run.",
    cause="config.seed is not read",
    remedy="derive initial weights, the order of events and noise from config.seed",
    after=(SEEDED,),
)
def another_seed_is_another_run(subject: Subject) -> None:
    first, other = (subject.trained(2, seed=seed).weights() for seed in (SEED, SEED + 1))
    if same(first, other):
        raise LawBroken(f"after 2 epochs the weights of seeds {SEED} and {SEED + 1} are equal")


@law(
    "validate() changes nothing: called again it returns the same, and a run goes on as if it had not been called.",
    cause="validation draws from the generator that training draws from, leaves dropout or batch normalisation as in "
    "training, or steps a scheduler",
    remedy="call eval() before and train() after it, draw from a generator made anew for each validation, and change "
    "rates in train_epoch()",
    after=(SEEDED,),
)
def validating_changes_nothing(subject: Subject) -> None:
    training = subject.trained(1)
    once, again = training.validate(), training.validate()
    if found := differences(once, again):
        name = found[0].removeprefix("/")
        raise LawBroken(
            f"{name} is {once.get(name)!r} at first and {again.get(name)!r} when validate() is called again"
        )
    numbers, weights = training.train_epoch(), training.weights()
    without = subject.trained(1)
    expected = without.train_epoch()
    if found := differences(expected, numbers):
        found = [place for place in found if not place.endswith("_seconds")]
    found = found or differences(without.weights(), weights)
    if found:
        raise LawBroken(f"the epoch after two validations differs from one after none in {places(found)}")
