"""The Optuna searcher that tells the truth: every trial of the study ends in the state that it really had.

Complete: its value. Stopped early: PRUNED, with its intermediate values, so that two-epoch losses are never compared
with fifty-epoch ones. Diverged or failed: FAIL, with its reason, never a number. Out of memory: PRUNED and infeasible,
so that TPE keeps away from there (the other samplers leave such a trial out). None stays RUNNING when the search is
over; after Ctrl-C those that can be gone on with do.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.storage.disk import append_whole
from search.storage.names import STUDY
from search.storage.trial_record import Outcome, TrialListener, TrialRecord
from search.tuning import history_sampler as memory
from search.tuning.causes import OUT_OF_MEMORY, cause_of
from trainables.base.objectives import Goal, Mode

optuna.logging.set_verbosity(optuna.logging.WARNING)

LEARNS_FROM_OTHERS = ("tpe", "gp")  # samplers; cmaes keeps its state in its own trials, qmc and random have none
_MOST_SEEN = {TPESampler: 1_000, GPSampler: 250}  # ended trials: TPE's time grows with them, GP's with their cube


@dataclass(frozen=True)
class Space:
    """What is searched: the points that a workload suggests, less what is held."""

    suggest: Callable[[optuna.Trial], dict[str, Any]]
    held: Mapping[str, Any]  # hyperparameters of sampled trials that are not searched
    preset_held: Mapping[str, Any]  # the same for presets; what a preset names itself goes before it
    presets: Mapping[str, Mapping[str, Any]]  # named points, run first

    def point(self, trial: optuna.Trial) -> dict[str, Any]:
        """Hyperparameters of a trial; those of a preset were queued with it."""
        preset = trial.user_attrs.get("preset")
        named = self.presets[preset] if preset else {}
        held = self.preset_held if preset else self.held
        held = {name: value for name, value in held.items() if name not in named}
        return {**self.suggest(HeldTrial(trial, held)), **held, **named}  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """For the records: range of each searched parameter, what is held, the presets that run."""
        ranges = {name: distribution._asdict() for name, distribution in sorted(self.distributions().items())}
        return {"searched": ranges, "held": dict(self.held), "presets": {k: dict(v) for k, v in self.presets.items()}}

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Every parameter that a sampled trial can have, with its range."""
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        found: dict[str, optuna.distributions.BaseDistribution] = {}
        for _ in range(64):  # enough to meet each branch of a conditional space
            trial = study.ask()
            self.suggest(HeldTrial(trial, self.held))  # type: ignore[arg-type]
            found |= trial.distributions
        return found


class HeldTrial:
    """An Optuna trial that is not asked for what is held, so that it never enters the study."""

    def __init__(self, trial: optuna.Trial, held: Mapping[str, Any]) -> None:
        self._trial, self._held = trial, held

    def __getattr__(self, attribute: str) -> Any:
        method = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return method
        return lambda name, *args, **kwargs: self._held[name] if name in self._held else method(name, *args, **kwargs)


class RepeatableSampler(RandomSampler):
    """Random points of which each depends on the seed and its trial's number alone.

    A search that goes on after a death draws the points that it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        words = (self._seed, trial.number, *param_name.encode())
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)


def make_sampler(name: str, seed: int, known: int = 0) -> BaseSampler:
    """The sampler of that name; TPE is multivariate, grouped, and reckons with trials that still run.

    A study that goes on with ``known`` trials must not draw its first points again. (A QMC sampler keeps its place in
    the study, and random points follow from the numbers of their trials.)
    """
    if known and name not in ("qmc", "random"):
        seed = int(np.random.SeedSequence((seed, known)).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "gp":
                return GPSampler(seed=seed)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "qmc":
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case "random":
                return RepeatableSampler(seed)
    raise ValueError(f"no sampler is called {name!r}")


class _WholeLines(JournalFileBackend):
    """Optuna's journal file, to which a full disk adds nothing rather than half a line."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        size = sum(len(str(log)) for log in logs)
        append_whole(Path(self._file_path), lambda: super(_WholeLines, self).append_logs(logs), size)


def open_study(
    folder: Path, name: str, modes: Iterable[Mode], sampler: BaseSampler, earlier: Sequence[FrozenTrial] = ()
) -> optuna.Study:
    """The study of a search, in the journal file of its folder.

    Parameters
    ----------
    earlier : sequence of FrozenTrial
        Complete trials of earlier searches, which the sampler is to know. They are kept beside a new study and found
        again by whoever opens it later; they are none of its own trials.
    """
    storage = _journal(folder)
    directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in modes]
    if name not in optuna.get_all_study_names(storage):
        memory.keep(storage, name, directions, earlier)  # first: where the study is, they are whole
    kept = memory.kept(storage, name)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=directions,
        sampler=memory.HistorySampler(sampler, kept, most) if (most := _MOST_SEEN.get(type(sampler))) else sampler,
        load_if_exists=True,
    )
    if kept and "warm_from" not in study.user_attrs:
        study.set_user_attr("warm_from", Counter(trial.user_attrs["warm_from"] for trial in kept))
    return study


def read_study(folder: Path, name: str) -> list[FrozenTrial] | None:
    """All trials of the study of a search; None where it has not begun to ask for points."""
    if not (folder / STUDY).exists():
        return None
    storage = _journal(folder)
    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def _journal(folder: Path) -> JournalStorage:
    journal = str(folder / STUDY)
    backend = _WholeLines(journal, lock_obj=JournalFileOpenLock(journal))  # holds on network file systems
    return JournalStorage(backend)


class OptunaSearcher(Searcher, TrialListener):  # type: ignore[misc]
    """Asks the study for points and, as a listener of the records, tells it what became of them.

    Parameters
    ----------
    study : optuna.Study
        On storage that only this process writes.
    space : Space
    fixed : mapping of str to object
        Hyperparameters of every trial that belong to the budget, as ``epochs``.
    trials : int
        Sampled trials; the presets of the space come before them and on top.
    records : iterable of TrialRecord
        Trials of this study in an earlier process. Those that the study still has as running are gone on with first,
        from their checkpoint where they have one.
    goal : Goal
        Metrics that the study is told, and limits, which it is told as constraints.
    seed : int
        Trial n trains with ``seed + n``.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        *,
        fixed: Mapping[str, Any],
        trials: int,
        goal: Goal,
        seed: int,
        records: Iterable[TrialRecord] = (),
    ) -> None:
        super().__init__()
        self._study, self._space, self._fixed = study, space, dict(fixed)
        self._goal, self._seed = goal, seed
        self._records = {record.number: record for record in records}
        known = study.get_trials(deepcopy=False)
        self._interrupted = [trial.number for trial in known if trial.state == TrialState.RUNNING]
        self._left = trials + len(space.presets) - sum(trial.state != TrialState.WAITING for trial in known)
        self._open: dict[int, optuna.Trial] = {}
        queued = {trial.user_attrs.get("preset") for trial in known}
        for name, point in space.presets.items():
            if name not in queued:
                study.enqueue_trial(dict(point), user_attrs={"preset": name})
        self._catch_up()

    def _catch_up(self) -> None:
        """Tell the study of trials whose end was written down just before the process was killed."""
        for number in list(self._interrupted):
            record = self._records.get(number)
            if record is not None and record.outcome != "interrupted":
                self._interrupted.remove(number)
                self._open_again(number)
                self.trial_ended(record)

    def ended(self) -> dict[int, tuple[Outcome, str]]:
        """How trials ended of which the study knows that and the records do not: their journal was damaged."""
        return {
            trial.number: (trial.user_attrs["outcome"], trial.user_attrs["reason"])
            for trial in self._study.get_trials(deepcopy=False)
            if trial.number in self._records
            and self._records[trial.number].outcome == "interrupted"
            and trial.state.is_finished()
            and "outcome" in trial.user_attrs
        }

    def _open_again(self, number: int) -> optuna.Trial:
        """A trial of an earlier process, with its last epoch, which was written down just before the study was told."""
        trial = optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)
        self._open[number] = trial
        if number in self._records and self._records[number].epoch:
            self.epoch_ended(self._records[number])
        return trial

    @property
    def left(self) -> int:
        """Trials still to be run, interrupted ones included."""
        return self._left + len(self._interrupted)

    # --- Ray Tune asks

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # metric and mode are the study's; Tune gives them to the scheduler as well

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._interrupted:
            return self._go_on(self._interrupted.pop(0))
        if self._left <= 0:
            return str(Searcher.FINISHED)
        self._left -= 1
        trial = self._study.ask()
        self._open[trial.number] = trial
        return self._config(trial)

    def _go_on(self, number: int) -> dict[str, Any]:
        trial = self._open_again(number)
        config = self._config(trial)
        record = self._records.get(number)  # none: asked for, and interrupted before it started
        if record is None:
            return config
        checkpoint = record.checkpoint.path if record.checkpoint else None
        return config | {"hyperparameters": record.hyperparameters, "continue_from": checkpoint}

    def _config(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "hyperparameters": self._space.point(trial) | self._fixed | {"seed": self._seed + trial.number},
            "number": trial.number,
            "preset": trial.user_attrs.get("preset"),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: Tune calls this for complete and for stopped trials alike. The records know which it was."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study is on disk after every call, newer than any snapshot of Tune's."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Nothing: see ``save_to_dir``."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # likewise: Tune pickles its settings once at the start

    # --- the records tell

    def epoch_ended(self, trial: TrialRecord) -> None:
        if self._goal.several:  # Optuna takes intermediate values of one objective only
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it has the epoch already
            self._open[trial.number].report(trial.metrics[self._goal.objective], step=trial.epoch)

    def trial_ended(self, trial: TrialRecord) -> None:
        asked = self._open.pop(trial.number, None)
        if asked is None:  # see ``ended``
            return
        for key in ("outcome", "reason", "epoch"):
            asked.set_user_attr(key, getattr(trial, key))
        if trial.metrics and trial.outcome in ("complete", "stopped_early"):  # else a stopped trial would pass for one
            for name, excess in self._goal.excesses(trial.metrics).items():  # that keeps all limits
                asked.set_constraint(name, excess)
        match trial.outcome:
            case "complete" if trial.perturbed:  # its value does not belong to the point that was asked for
                self._study.tell(asked, state=TrialState.PRUNED)
            case "complete":
                asked.set_user_attr("hyperparameters", trial.hyperparameters)  # what is held too, for a warm start
                asked.set_user_attr("metrics", trial.metrics)
                self._study.tell(asked, [trial.metrics[name] for name in self._goal.objectives])
            case "stopped_early":
                self._study.tell(asked, state=TrialState.PRUNED)
            case "interrupted":
                pass  # it still runs, only not now
            case "failed" if cause_of(trial.reason) in OUT_OF_MEMORY:
                if "memory" not in asked.constraints:  # else told just before the process was killed
                    asked.set_constraint("memory", 1.0)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # CMA-ES says that it does not heed constraints
                    self._study.tell(asked, state=TrialState.PRUNED)
            case _:
                self._study.tell(asked, state=TrialState.FAIL)

    def close(self, interrupted: bool) -> None:
        """Points asked for that never became a trial are failures of nobody; only a resume may find them open."""
        for asked in () if interrupted else self._open.values():
            asked.set_user_attr("reason", "never started")
            self._study.tell(asked, state=TrialState.FAIL)
        self._open.clear()
