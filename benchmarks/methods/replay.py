"""Replay the learning curves of a table on a virtual clock: workers that train, and one driver that proposes."""

# P point, S seed, E epoch

from __future__ import annotations

import heapq
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.methods.table import Floats, Table

_RUN_TIME_SPREAD = 0.1  # of the logarithm of a training's seconds: workers do not march in step
_CURVE_SHARE = 0.5  # of the variance of synthetic noise that stays for a whole training; the rest changes each epoch
_BEST_SHARE = 0.05  # of the points, whose spread is the unit of noise
Points = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Setting:
    """What every method is given alike."""

    budget: float = 60.0  # in whole trainings of mean length
    workers: int = 8
    noise: float = 1.0  # real: share of a seed's own part; synthetic: times the spread of the best 5 %
    presets: str = "middling"  # good, middling, bad, own or none
    training_s: float = 600.0  # virtual seconds of a whole training of mean length
    start_s: float = 2.0  # virtual seconds from a free worker to the first batch of the next trial
    by_trials: bool = False  # the budget is a number of trials, as --trials gives it; otherwise of compute


@dataclass
class Trial:
    """One training of a row, as far as it has come."""

    number: int
    row: int
    key: Any  # of the method
    epoch: int = 0
    loss: float = float("nan")
    ended: str = ""  # complete, stopped, diverged; empty: running


class Method(Protocol):
    """A method of search, as a replay drives it."""

    whole_only: bool  # recommends only trainings that came to their end
    latency_s: float  # of one proposal

    def propose(self) -> tuple[Any, Mapping[str, Any], str | None] | None:
        """Return a key for the trial, its point and the name of its preset; None: no more trials."""

    def report(self, trial: Trial, progress: float) -> bool:
        """Receive the loss of one more epoch; return whether the trial goes on. Not asked at the last epoch."""

    def end(self, trial: Trial, progress: float) -> None:
        """Receive the end of a trial: complete or diverged."""


@dataclass(frozen=True)
class Replicate:
    """What is the same for all methods: start points, noise, run times, which seed trains and which judges."""

    table: Table
    setting: Setting
    number: int
    curve_PE: Floats = field(init=False)
    clean_P: Floats = field(init=False)  # last value without the noise of the training that was seen
    regret_P: Floats = field(init=False)  # 0 the best point, 1 the median or worse
    scale: float = field(init=False)
    epoch_s_P: Floats = field(init=False)

    def __post_init__(self) -> None:
        table, noise = self.table, self.setting.noise
        rng = self.rng("noise")
        points, _, epochs = table.loss_PSE.shape
        factor_P = np.exp(_RUN_TIME_SPREAD * rng.standard_normal(points))
        constant_P, changing_PE = rng.standard_normal(points), rng.standard_normal((points, epochs))
        if table.seeds == 1:
            judged_P = table.true_PS[:, 0]
            unit = noise * spread_of_best(judged_P)
            one_PE = _CURVE_SHARE**0.5 * constant_P[:, None] + (1 - _CURVE_SHARE) ** 0.5 * changing_PE
            curve_PE, clean_P = table.loss_PSE[:, 0] + unit * one_PE, table.loss_PSE[:, 0, -1]
        else:
            seen = self.number % table.seeds
            others = [seed for seed in range(table.seeds) if seed != seen or noise == 0]
            judged_P = table.true_PS[:, others].mean(axis=1)
            mean_PE = table.loss_PSE.mean(axis=1)
            seen_PE = table.loss_PSE[:, seen]
            mixed_PE = mean_PE + noise * (seen_PE - mean_PE)
            curve_PE = np.where(np.isfinite(mean_PE), mixed_PE, seen_PE)  # another seed diverged, this one need not
            clean_P = table.loss_PSE[:, others, -1].mean(axis=1)
        best, middle = np.nanmin(judged_P), np.nanmedian(judged_P)
        scale = float(middle - best) or 1.0
        mean_s = float(np.delete(table.seconds_PS, list(table.presets.values()), axis=0).mean()) * epochs
        object.__setattr__(self, "curve_PE", curve_PE)
        object.__setattr__(self, "clean_P", clean_P)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "regret_P", np.nan_to_num((judged_P - best) / scale, nan=1.0).clip(0.0, 1.0))
        seconds_P = table.seconds_PS.mean(axis=1) * self.setting.training_s / mean_s
        object.__setattr__(self, "epoch_s_P", seconds_P * factor_P)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator of this table, replicate and purpose, the same for all methods."""
        return np.random.default_rng([self.number, zlib.crc32(self.table.name.encode()), zlib.crc32(purpose.encode())])

    @property
    def seed(self) -> int:
        """Seed of the samplers."""
        return int(self.rng("seed").integers(2**31))

    @property
    def presets(self) -> Points:
        """Named points that run first: those of the table, or two of its rows by how good they are."""
        if self.setting.presets == "none":
            return {}
        if self.setting.presets == "own":
            return {name: self.table.point(row) for name, row in self.table.presets.items()}
        return {f"{self.setting.presets}-{row}": self.table.point(row) for row in self._preset_rows()}

    def _preset_rows(self) -> list[int]:
        low, high = {"good": (0.0, 0.1), "middling": (0.4, 0.6), "bad": (0.8, 1.0)}[self.setting.presets]
        mean_P = self.table.true_PS.mean(axis=1)
        named = set(self.table.presets.values())
        finite = [row for row in np.argsort(mean_P) if np.isfinite(mean_P[row]) and row not in named]
        choice = finite[int(low * len(finite)) : int(high * len(finite))]
        return [int(row) for row in self.rng("presets").choice(choice, 2, replace=False)]

    def preset_row(self, name: str) -> int:
        return self.table.presets[name] if self.setting.presets == "own" else int(name.rpartition("-")[2])


def spread_of_best(value_P: Floats) -> float:
    """Return the standard deviation of the best 5 % of all finite values, of five at least."""
    finite = np.sort(value_P[np.isfinite(value_P)])
    return float(np.std(finite[: max(round(_BEST_SHARE * len(finite)), 5)]))


@dataclass(frozen=True)
class Outcome:
    """What one method reached in one replicate."""

    regret: float  # of the recommended point, judged on another seed or without noise
    optimism: float  # by how much its reported value is better than its true one, in the same unit
    regret_at: tuple[float, ...]  # at each hundredth of the budget
    trials: int
    complete: int
    compute: float  # in whole trainings
    most_running: int


class Replay:
    """One method on one replicate, from the first proposal to the end of the budget."""

    def __init__(self, replicate: Replicate, method: Method) -> None:
        self._replicate, self._method, self._setting = replicate, method, replicate.setting
        self._table = replicate.table
        self._trials: list[Trial] = []
        self._uses = np.zeros(len(self._table.point_PD), int)
        self._most_uses = max(self._table.seeds - 1, 1)
        self._events: list[tuple[float, int]] = []
        self._running = self._most_running = 0
        self._driver_free_s = self._compute_s = 0.0
        self._regret_at: list[float] = []
        self._best: Trial | None = None
        self._out = False

    def run(self) -> Outcome:
        setting = self._setting
        end_s = float("inf") if setting.by_trials else setting.budget * setting.training_s / setting.workers
        step_s = end_s / 100
        for _ in range(setting.workers):
            self._start(0.0)
        while self._events and self._events[0][0] <= end_s:
            now_s, number = heapq.heappop(self._events)
            while now_s > step_s * (len(self._regret_at) + 1):
                self._regret_at.append(self._regret())
            self._epoch(self._trials[number], now_s)
        if not setting.by_trials:
            self._compute_s += sum(self._left_of_epoch(end_s, at_s, number) for at_s, number in self._events)
        self._regret_at += [self._regret()] * (100 - len(self._regret_at))
        best = self._best
        scale = self._replicate.scale
        return Outcome(
            regret=self._regret(),
            optimism=float(self._replicate.clean_P[best.row] - best.loss) / scale if best else 0.0,
            regret_at=tuple(self._regret_at),
            trials=len(self._trials),
            complete=sum(trial.ended == "complete" for trial in self._trials),
            compute=self._compute_s / setting.training_s,
            most_running=self._most_running,
        )

    def _left_of_epoch(self, end_s: float, at_s: float, number: int) -> float:
        """Return what was computed of an epoch that the end of the budget cut."""
        epoch_s = float(self._replicate.epoch_s_P[self._trials[number].row])
        return max(end_s - (at_s - epoch_s), 0.0)

    def _start(self, now_s: float) -> None:
        """Give a free worker a trial; the driver proposes one after the other."""
        if self._out or (self._setting.by_trials and len(self._trials) >= self._setting.budget):
            return
        proposed = self._method.propose()
        if proposed is None:
            self._out = True
            return
        key, point, preset = proposed
        row = self._row(point, preset)
        if row is None:  # the table is used up
            self._out = True
            return
        self._uses[row] += 1
        trial = Trial(len(self._trials), row, key)
        self._trials.append(trial)
        self._running += 1
        self._most_running = max(self._most_running, self._running)
        self._driver_free_s = max(self._driver_free_s, now_s) + self._method.latency_s
        self._next_epoch(trial, self._driver_free_s + self._setting.start_s)

    def _row(self, point: Mapping[str, Any], preset: str | None) -> int | None:
        if preset is not None:
            return self._replicate.preset_row(preset)
        return next((int(row) for row in self._table.nearest(point) if self._uses[row] < self._most_uses), None)

    def _next_epoch(self, trial: Trial, now_s: float) -> None:
        heapq.heappush(self._events, (now_s + float(self._replicate.epoch_s_P[trial.row]), trial.number))

    def _epoch(self, trial: Trial, now_s: float) -> None:
        self._compute_s += float(self._replicate.epoch_s_P[trial.row])
        trial.epoch += 1
        loss = float(self._replicate.curve_PE[trial.row, trial.epoch - 1])
        progress = float(self._table.progress_PE[trial.row, trial.epoch - 1])
        if not np.isfinite(loss):
            trial.ended = "diverged"
            self._method.end(trial, progress)
        else:
            trial.loss = loss
            if trial.epoch == self._table.epochs:
                trial.ended = "complete"
                self._method.end(trial, progress)
            elif not self._method.report(trial, progress):
                trial.ended = "stopped"
        if trial.ended:
            self._running -= 1
            self._consider(trial)
            self._start(now_s)
        else:
            self._next_epoch(trial, now_s)

    def _consider(self, trial: Trial) -> None:
        """Recommend a trial that has ended, if it is the best so far; where a method says so, whole ones go first."""
        if trial.ended == "diverged":
            return
        if self._best is None or self._order(trial) < self._order(self._best):
            self._best = trial

    def _order(self, trial: Trial) -> tuple[bool, float]:
        return self._method.whole_only and trial.ended != "complete", trial.loss

    def _regret(self) -> float:
        return float(self._replicate.regret_P[self._best.row]) if self._best else 1.0
