"""Build the ray.tune.Tuner of one search: trainable, searcher, scheduler, resources, checkpoints."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory

from search.config.spec import SearchSpec
from search.storage.disk import checkpoint_patience
from search.storage.location import StoragePath
from search.tuning.concurrency import ConcurrencyLimit, SlotLimit
from search.tuning.proposer import Proposer
from search.tuning.recorder import Recorder
from search.tuning.resources import Share
from search.tuning.schedulers import make_scheduler
from search.tuning.stack_proxy import StackedTrial
from search.tuning.stack_servers import StackServers
from search.tuning.stopping import SignalGuard, StopController
from trainables.base.tune_adapter import EpochTrainable, Machine
from trainables.runtime.gpu_memory import GpuPart

_NO_SNAPSHOTS_S = "86400"  # of Tune's own state, where nothing reads it


@dataclass(frozen=True)
class TuneHooks:
    """The objects that Tune calls while it runs the trials."""

    searcher: Proposer
    recorder: Recorder
    stop_controller: StopController
    stacks: StackServers | None = None  # None: each trial trains in its own process


def make_tuner(spec: SearchSpec, data: Any, share: Share, path: StoragePath, hooks: TuneHooks) -> tune.Tuner:
    """Build the Tuner of one search.

    Parameters
    ----------
    data : object
        What trials receive. It goes into Ray's object store once, and every trial on a node maps the same memory.
    share : Share
        Resources of one trial, and the number of trials that run at a time when the search begins.
    path : StoragePath
        Directory of the search; its last part is the search's name.
    """
    most = None  # a population takes turns on what there is
    if spec.scheduler != "pbt":  # other trials wait until there is room for a whole one
        most = spec.most_concurrent
        hooks.searcher.limit = SlotLimit(share.concurrent) if hooks.stacks else ConcurrencyLimit(share, most)
    parent, _, name = path.path.rpartition("/")
    if path.url:
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = _NO_SNAPSHOTS_S
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    return tune.Tuner(
        tune.with_resources(_trainable(spec, data, share, hooks.stacks), PlacementGroupFactory([share.bundle])),
        tune_config=tune.TuneConfig(
            metric="scalar_score",  # the goal's own order: constraints go before the objective
            mode="min",
            search_alg=hooks.searcher,
            scheduler=make_scheduler(spec),
            num_samples=hooks.searcher.left,
            max_concurrent_trials=most,  # for Tune's own bookkeeping: the searcher holds points back
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=parent,
            storage_filesystem=path.files if path.url else None,
            callbacks=[hooks.recorder, SignalGuard()],
            stop=hooks.stop_controller,
            verbose=0,
            progress_reporter=_NoReporter(),
            failure_config=tune.FailureConfig(max_failures=spec.budget.retries),
            checkpoint_config=_checkpoints(spec.scheduler, path),
        ),
    )


class _NoReporter(tune.ProgressReporter):  # type: ignore[misc]
    """Print nothing: in a notebook Tune's own would clear what stands below the cell."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *system_information: Any) -> None: ...


def _trainable(spec: SearchSpec, data: Any, share: Share, stacks: StackServers | None) -> Any:
    if stacks:
        return tune.with_parameters(StackedTrial, servers=stacks.actors, patience=checkpoint_patience())
    return tune.with_parameters(
        EpochTrainable,
        training=spec.workload.training,
        training_config=spec.workload.config,
        data=data,
        goal=spec.goal,
        machine=Machine(share.threads, share.device, GpuPart(share.gpus, share.gpu_context), checkpoint_patience()),
    )


def checkpoints_kept(scheduler: str) -> int:
    """Return the number of checkpoints of a running trial: more than one, as a process may die between two writes."""
    return 3 if scheduler == "pbt" else 2


def _checkpoints(scheduler: str, path: StoragePath) -> tune.CheckpointConfig:
    """Leave deletion in a URL to our retention: Tune would write its own state there at every second checkpoint."""
    if path.url:
        return tune.CheckpointConfig(checkpoint_frequency=1)
    return tune.CheckpointConfig(num_to_keep=checkpoints_kept(scheduler), checkpoint_frequency=1)
