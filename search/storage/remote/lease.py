"""Who runs a search whose storage is a URL: an object there that its driver renews, and that goes stale without it."""

# Files on several machines cannot be locked, and their clocks differ: ages are those that the store itself gives.

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

NAME = "lease.json"
SETTLE_S = 0.5  # in which another driver that came at the same moment has written its own
_POLL_S = 1.0


def stale_s() -> float:
    """After how long without renewal others may go on with a search."""
    return float(os.environ.get("SEARCH_LEASE_S", "120"))


class LostError(Exception):
    """Somebody else goes on with the search."""


class Lease:
    """Of one search.

    Parameters
    ----------
    place : StoragePath
        Of the search.
    name : str
        Of the search, for people.
    """

    def __init__(self, place: StoragePath, name: str) -> None:
        self._place, self._name = place, name
        self.id, self._renewals = uuid4().hex, 0
        self.stale_s = stale_s()

    def take(self, dead: str, patient: bool, say: Callable[[str], object]) -> None:
        """Become the one driver.

        Parameters
        ----------
        dead : str
            Id of the last lease that this machine held here, and whose process is gone.
        patient : bool
            Wait until the lease of another driver is stale, or is renewed.

        Raises
        ------
        NameTakenError
            Another process runs the search, or may.
        OSError
            What the store raises.
        """
        other = self._read()
        if other and other["id"] != dead:
            left_s = other["stale_s"] - self._age_s()
            if left_s > 0:
                if not patient:
                    raise self._taken(other, left_s)
                say(
                    f"storage  {_whose(other)} may run this search: waiting up to {left_s:.0f} s whether it says so "
                    "again"
                )
                self._wait(other, left_s)
        self._write()
        time.sleep(SETTLE_S)
        winner = self._read()
        if winner and winner["id"] != self.id:
            raise self._taken(winner, winner["stale_s"])

    def is_fresh(self) -> bool:
        """Whether somebody holds it, and is not known to be dead. Raises what the store raises."""
        other = self._read()
        return other is not None and self._age_s() < other["stale_s"]

    def renew(self) -> None:
        """Say that this process still runs it.

        Raises
        ------
        LostError
            Another one does.
        OSError
            What the store raises.
        """
        self._require_own()
        self._write()

    def release(self) -> None:
        """Others may go on with it at once. Raises as ``renew`` does."""
        self._require_own()
        self._place.delete(NAME)

    def _require_own(self) -> None:
        other = self._read()
        if other and other["id"] != self.id:
            raise LostError(_whose(other))

    def _read(self) -> dict[str, Any] | None:
        text = self._place.read(NAME)
        try:
            return dict(json.loads(text)) if text else None
        except ValueError:  # half written by a store that is no object store
            return None

    def _write(self) -> None:
        self._renewals += 1
        about = {"host": platform.node(), "pid": os.getpid(), "stale_s": self.stale_s, "renewals": self._renewals}
        self._place.write(NAME, json.dumps({"id": self.id, **about}).encode())

    def _age_s(self) -> float:
        """By the clock of the store."""
        probe = f"{NAME}.{self.id}"
        self._place.write(probe, b"now")
        try:
            now, then = (
                self._place.files.get_file_info(f"{self._place.path}/{file}").mtime_ns for file in (probe, NAME)
            )
        finally:
            self._place.delete(probe)
        return max(0.0, (now - then) / 1e9) if now and then else 0.0

    def _wait(self, other: dict[str, Any], left_s: float) -> None:
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
            f"A search named {self._name!r} is running now: {_whose(other)}, in {self._place}. Choose another --name, "
            f"or wait; should that process be lost, the search can be gone on with in {left_s:.0f} s."
        )


def _whose(lease: dict[str, Any]) -> str:
    return f"process {lease['pid']} on {lease['host']}"
