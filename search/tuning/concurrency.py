"""How many trials may run at a time: what the cluster has now, which may grow and shrink while a search runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from search.config.settings import Site
from search.errors import ClusterError
from search.tuning.autoscaler import Demand, autoscales
from search.tuning.resources import Nodes, Share, live_nodes, share_of, trials_on

FIRST_NODE_S = 900.0  # in which an autoscaler adds a node with room for a trial, its image and its start included
REPORT_S = 30.0  # in which an autoscaler that has just started reports itself
_LOOK_EVERY_S = 2.0


def nodes_with_room(site: Site, nodes: Nodes, report: Callable[[str], object]) -> Nodes:
    """Return the nodes; where none has room for a trial and an autoscaler adds nodes, wait for the first that has.

    Raises
    ------
    ClusterError
        No node has room, and none comes.
    """
    try:
        share_of(site, nodes, None, 1)
    except ClusterError as error:
        if not _autoscales(nodes):
            raise
        return _first_node(site, error, report)
    return nodes


def _autoscales(nodes: Nodes) -> bool:
    """Whether an autoscaler adds nodes. One that has just started reports itself some seconds later.

    That is waited for only where no node has any CPU, as on a cluster that begins with its head alone.
    """
    deadline = time.monotonic() + (0.0 if any(node.get("CPU") for node in nodes) else REPORT_S)
    while not (found := autoscales()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return found


def _first_node(site: Site, lacking: ClusterError, report: Callable[[str], object]) -> Nodes:
    cpus, gpus = (
        default if asked in (None, "auto") else float(asked)
        for asked, default in ((site.cpus_per_trial, 1.0), (site.gpus_per_trial, 0.0))
    )
    demand, deadline = Demand({"CPU": cpus} | ({"GPU": gpus} if gpus else {})), time.monotonic() + FIRST_NODE_S
    report(f"cluster  no node has room for a trial yet: waiting for one with {cpus:g} CPU and {gpus:g} GPU")
    demand.ask(1)
    try:
        while time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
            nodes = live_nodes()
            try:
                share_of(site, nodes, None, 1)
            except ClusterError as error:
                lacking = error
            else:
                return nodes
    finally:
        demand.ask(0)
    raise ClusterError(f"{lacking} The autoscaler added none that has within {FIRST_NODE_S / 60:.0f} min.") from lacking


class ConcurrencyLimit:
    """The number of trials that the live nodes hold, never more than a fixed one and never less than one.

    One trial is proposed even where no node holds it: it waits in Ray, and so tells an autoscaler to add a node. For
    more room an autoscaler is asked without proposing points: a point that waits knows nothing of the trials that end
    meanwhile. It is asked for as much again as there is, so that a cluster doubles until nothing more is wanted.

    Parameters
    ----------
    share : Share
        Resources of one trial.
    most : int
        The cap.
    """

    def __init__(self, share: Share, most: int) -> None:
        self._share, self._most = share, most
        self._now = share.concurrent
        self._demand = Demand(share.bundle) if autoscales() else None
        self._looked = 0.0  # a time

    def update(self, running: int, left: int) -> int:
        """Return the number of trials that may run now, looking at the nodes every few seconds.

        Parameters
        ----------
        running, left : int
            Trials that were proposed and have not ended, and trials that were not proposed yet.
        """
        if time.monotonic() - self._looked >= _LOOK_EVERY_S:
            self._now = max(1, min(trials_on(live_nodes(), self._share), self._most))
            if self._demand:
                unplaced = left - max(0, self._now - running)
                self._demand.ask(max(0, min(self._now, self._most - self._now, unplaced)))
            self._looked = time.monotonic()
        return self._now

    def close(self) -> None:
        """Ask the autoscaler for nothing more."""
        if self._demand:
            self._demand.ask(0)


class SlotLimit:
    """The number of trials that the slots of a search's stacks hold; their servers are as many as it began with."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def update(self, running: int, left: int) -> int:
        """Return the number of trials that may run now."""
        return self._slots

    def close(self) -> None:
        """Do nothing: nothing was asked for."""
