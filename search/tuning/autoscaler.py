"""Ask the autoscaler of a cluster for room, where there is one, without proposing trials that cannot run yet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import ray
from ray._private import ray_constants
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

_TIMEOUT_S = 10
_NOT_PLACED = ("PENDING", "PREPARED", "RESCHEDULING")  # states of a placement group
_STARTED_BY_HAND = "node_"  # begins the type of a node that no autoscaler started; the node's id follows


def autoscales() -> bool:
    """Whether an autoscaler adds nodes to the connected cluster; Ray has no public call that says so."""
    try:
        return any(not kind.startswith(_STARTED_BY_HAND) for kind in _node_types())
    except (RuntimeError, OSError, ValueError, KeyError, ray.exceptions.RayError):  # an unknown autoscaler
        return False


def _node_types() -> Iterable[str]:
    """List the types of nodes that the autoscaler, of the first or second generation, reports."""
    if is_autoscaler_v2():
        status = get_cluster_status(ray.get_runtime_context().gcs_address, _TIMEOUT_S)
        managed = status.stats.autoscaler_version not in (None, "", "0")  # else none runs
        return [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)] if managed else []
    report = json.loads(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS) or "{}")
    return list(((report.get("autoscaler_report") or {}).get("node_type_mapping") or {}).values())


class Demand:
    """Room that a search would use if the cluster grew, as placement groups that wait for nodes and run nothing.

    Ray removes them with the process that made them, and the autoscaler forgets them then.

    Parameters
    ----------
    bundle : mapping of str to float
        Resources of one trial.
    """

    def __init__(self, bundle: Mapping[str, float]) -> None:
        self._bundle = dict(bundle)
        self._waiting: list[PlacementGroup] = []

    def ask(self, trials: int) -> None:
        """Ask for room for so many more trials; give back what has come, so that trials find it."""
        states = placement_group_table() if self._waiting else {}
        still = [group for group in self._waiting if states.get(group.id.hex(), {}).get("state") in _NOT_PLACED]
        for group in self._waiting:
            if group not in still[:trials]:
                remove_placement_group(group)
        missing = range(trials - len(still))
        self._waiting = still[:trials] + [placement_group([self._bundle]) for _ in missing]
