"""The servers of a search's stacks, as the driver has them: started before its first trial, stopped at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from search.storage.trial_record import TrialListener, TrialRecord
from search.tuning.resources import Share
from search.tuning.stack_server import StackServer
from trainables.base.trial_run import TrialKind
from trainables.runtime.gpu_memory import GpuPart

if TYPE_CHECKING:
    from search.config.spec import SearchSpec

_MOST_RESTARTS = 100
_MEASURE_S = 240.0  # for a process to load torch, for the data to reach its node, and to measure
_USAGE_S = 5.0  # to wait for a server that tells of its slots


class StackServers(TrialListener):
    """Start servers, hand them to the trials, and free the slots of trials that have ended.

    Ray starts a server that died again, on another node if need be. Its runs are lost, and their trials are started
    again from their checkpoints.

    Parameters
    ----------
    data : object
        What trials receive.
    share : Share
        Of each server, and how many there are.
    """

    def __init__(self, spec: SearchSpec, data: Any, share: Share) -> None:
        workload = spec.workload
        # held here for as long as the servers live: one that is started again receives it again
        self._kind = ray.put(TrialKind(workload.training, workload.config, data, spec.goal))
        self.actors = [_start(self._kind, share) for _ in range(share.servers)]

    def trial_ended(self, trial: TrialRecord) -> None:
        for actor in self.actors:
            with suppress(RayError):
                actor.leave.remote(trial.trial_id)

    def usage(self) -> dict[str, float]:
        """Return epochs, seconds of training and the mean share of busy slots of the servers that answer."""
        asked = [actor.usage.remote() for actor in self.actors]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_USAGE_S)
        told: list[dict[str, float]] = []
        for answer in answered:
            with suppress(RayError):
                told.append(ray.get(answer))
        told = [one for one in told if one["epochs"]]
        sums = {name: sum(one[name] for one in told) for name in ("epochs", "busy_s", "slots")}
        return sums | {"slots": sums["slots"] / max(len(told), 1)}

    def close(self, say: Callable[[str], object]) -> None:
        """Stop all servers, and say how busy their slots were."""
        with suppress(Exception):  # a search ends as it did, whatever is left of its cluster
            if (use := self.usage())["epochs"]:
                say(f"stack    {100 * use['slots']:.0f} % of all slots were busy, {use['epochs']:.0f} epochs")
        for actor in self.actors:
            _stop(actor)


def measured_slots(spec: SearchSpec, data: Any, share: Share, hyperparameters: Mapping[str, Any]) -> int:
    """Measure on the cluster which number of slots trains most runs like this one; 1: no stack is worth while.

    Raises
    ------
    RayError
        It could not be measured.
    """
    workload = spec.workload
    actor = _start(TrialKind(workload.training, workload.config, data, spec.goal), share)
    try:
        return int(ray.get(actor.measure.remote(hyperparameters), timeout=_MEASURE_S))
    finally:
        _stop(actor)


def _start(kind: Any, share: Share) -> Any:
    options = {
        "num_cpus": share.server_cpus,
        "num_gpus": share.gpus,
        "memory": share.memory or None,
        "max_restarts": _MOST_RESTARTS,
        "max_concurrency": 4 * share.slots + 8,  # calls of a trial that ended may still wait
        "scheduling_strategy": "SPREAD",
    }
    part = GpuPart(share.gpus, share.gpu_context)
    return ray.remote(**options)(StackServer).remote(kind, share.device, share.threads, part, share.slots)


def _stop(actor: Any) -> None:
    with suppress(RayError):
        ray.kill(actor)
