"""What a check receives: the settings to be checked, and the cluster once it is connected."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.diagnostics.nodes import Cluster
    from search.tuning.resources import Share

DRIVER = "this machine"


@dataclass
class DiagnosticContext:
    """Settings from the flags, and what the checks of the cluster and of the data add to them."""

    address: str | None
    server: str | None  # URI of MLflow; None: the database in the storage
    storage: str  # an absolute folder, or a URL
    data: tuple[str, ...]
    workload: str | None  # None: the one that reads the data, or else the first one
    cpus_per_trial: float
    gpus_per_trial: float | None
    time_limit_s: float  # of one check
    cluster: Cluster | None = None  # None: not connected
    share: Share | None = None  # of one trial; None: no node has room for it
    session: ExitStack = field(default_factory=ExitStack)  # closed when all checks are done
    closed: threading.Event = field(default_factory=threading.Event)  # set after that

    @property
    def folder(self) -> Path | None:
        """The storage if it is a folder."""
        return None if "://" in self.storage else Path(self.storage)

    @property
    def node_limit_s(self) -> float:
        """Seconds to wait for nodes, less than a check has, so that it can still report those that do not answer."""
        return 0.8 * self.time_limit_s

    @property
    def on_node(self) -> bool:
        """Whether this machine is one of the nodes, so that it need not be checked a second time."""
        return self.cluster is not None and any(node.host == socket.gethostname() for node in self.cluster.nodes)

    @property
    def connected_cluster(self) -> Cluster:
        """The cluster, for checks that run only where there is one."""
        assert self.cluster is not None
        return self.cluster
