"""Let one driver at a time run a search in a URL: it renews an object there, which goes stale if the driver dies."""

# Files cannot be locked across machines, and their clocks differ; so ages come from the clock of the store.

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from search.errors import NameTakenError
from search.storage.location import StoragePath
from search.storage.names import LEASE

CONFIRM_S = 0.5  # after which a driver that came at the same moment has written its own lease
_POLL_S = 1.0


def stale_s() -> float:
    """Return after how many seconds without renewal another driver may resume the search."""
    return float(os.environ.get("SEARCH_LEASE_S", "120"))


class LeaseLostError(Exception):
    """Another process runs the search now; the message names it."""


class Lease:
    """The right to run one search.

    Parameters
    ----------
    place : StoragePath
        Of the search, in the URL.
    name : str
        Of the search, for messages.
    """

    def __init__(self, place: StoragePath, name: str) -> None:
        self._place, self._name = place, name
        self.id, self._renewals = uuid4().hex, 0
        self.stale_s = stale_s()

    def acquire(self, former: str, wait: bool, say: Callable[[str], object]) -> None:
        """Become the one driver.

        Parameters
        ----------
        former : str
            Id of the last lease that this machine held here; its process has ended.
        wait : bool
            Wait until the lease of another driver is stale, or is renewed.

        Raises
        ------
        NameTakenError
            Another process runs the search, or may.
        OSError
            The store cannot be used.
        """
        other = self._read()
        if other and other["id"] != former:
            left_s = other["stale_s"] - self._age_s()
            if left_s > 0:
                if not wait:
                    raise self._taken(other, left_s)
                say(
                    f"storage  {_holder(other)} may run this search: waiting up to {left_s:.0f} s for its lease to be "
                    "renewed or to expire"
                )
                self._wait_for_expiry(other, left_s)
        self._write()
        time.sleep(CONFIRM_S)
        winner = self._read()
        if winner and winner["id"] != self.id:
            raise self._taken(winner, winner["stale_s"])

    def is_fresh(self) -> bool:
        """Return whether a driver holds the lease and is not known to be dead. Raises what the store raises."""
        other = self._read()
        return other is not None and self._age_s() < other["stale_s"]

    def renew(self) -> None:
        """Record that this process still runs the search.

        Raises
        ------
        LeaseLostError
            Another process runs it.
        OSError
            The store cannot be used.
        """
        self._require_own()
        self._write()

    def release(self) -> None:
        """Let other drivers run the search at once. Raises as ``renew`` does."""
        self._require_own()
        self._place.delete(LEASE)

    def _require_own(self) -> None:
        other = self._read()
        if other and other["id"] != self.id:
            raise LeaseLostError(_holder(other))

    def _read(self) -> dict[str, Any] | None:
        text = self._place.read(LEASE)
        try:
            return dict(json.loads(text)) if text else None
        except ValueError:  # half written, by a store that is no object store
            return None

    def _write(self) -> None:
        self._renewals += 1
        about = {"host": platform.node(), "pid": os.getpid(), "stale_s": self.stale_s, "renewals": self._renewals}
        self._place.write(LEASE, json.dumps({"id": self.id, **about}).encode())

    def _age_s(self) -> float:
        """Return the age of the lease in seconds, by the clock of the store."""
        probe = f"{LEASE}.{self.id}"
        self._place.write(probe, b"now")
        try:
            now, then = (
                self._place.files.get_file_info(f"{self._place.path}/{file}").mtime_ns for file in (probe, LEASE)
            )
        finally:
            self._place.delete(probe)
        return max(0.0, (now - then) / 1e9) if now and then else 0.0

    def _wait_for_expiry(self, other: dict[str, Any], left_s: float) -> None:
        deadline = time.monotonic() + left_s
        while time.monotonic() < deadline:
            time.sleep(min(_POLL_S, left_s))
            now = self._read()
            if now is None:
                return
            if now != other:
                raise self._taken(now, now["stale_s"])

    def _taken(self, other: dict[str, Any], left_s: float) -> NameTakenError:
        return NameTakenError(
            f"A search named {self._name!r} is running now: {_holder(other)}, in {self._place}. Choose another --name, "
            f"or wait; should that process be lost, the search can be resumed in {left_s:.0f} s."
        )


def _holder(lease: dict[str, Any]) -> str:
    return f"process {lease['pid']} on {lease['host']}"
