"""What is to be checked, as every check receives it: the user's words, and the cluster once it is joined."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.diagnostics.cluster import Cluster
    from search.tuning.resources import Share

DRIVER = "this machine"


@dataclass
class Setup:
    """Filled from the flags; the checks of the cluster and of the data add what they find."""

    address: str | None
    server: str | None  # URI of MLflow; None: the database in the storage
    storage: str  # a folder, absolute, or a URL
    data: tuple[str, ...]
    workload: str | None  # None: as the data tell, or the first one
    cpus_per_trial: float
    gpus_per_trial: float | None
    limit_s: float  # of one check
    cluster: Cluster | None = None  # None: not joined
    share: Share | None = None  # of one trial; None: it fits nowhere
    session: ExitStack = field(default_factory=ExitStack)  # closed when all checks are done
    over: threading.Event = field(default_factory=threading.Event)  # set after that

    @property
    def folder(self) -> Path | None:
        """The storage where it is a folder."""
        return None if "://" in self.storage else Path(self.storage)

    @property
    def patience_s(self) -> float:
        """With the nodes, so that something can be said of those that stay silent before the check's own time is up."""
        return 0.8 * self.limit_s

    @property
    def is_node(self) -> bool:
        """Whether this machine is one of the nodes, and need not be looked at besides."""
        return self.cluster is not None and any(node.host == socket.gethostname() for node in self.cluster.nodes)

    @property
    def joined(self) -> Cluster:
        """The cluster, for checks that run only where there is one."""
        assert self.cluster is not None
        return self.cluster
