"""Holds a search whose storage is a URL: its lease, its mirror, and the thread that looks after both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from search.storage.location import StoragePath, explained
from search.storage.remote.lease import Lease, LostError
from search.storage.remote.mirror import Mirror

STATE = "state"  # folder of the small files, beside those of the trials
_RENEWALS = 6  # of a lease, before it would be stale
_TICK_S = 1.0


@contextmanager
def remote_session(
    folder: Path,
    place: StoragePath,
    growing: Sequence[str],
    *,
    dead: str,
    patient: bool,
    say: Callable[[str], object],
    lost: Callable[[str], object],
) -> Iterator[tuple[str, Mirror]]:
    """Be the one driver of a search; yields the lease's id and the mirror, which has brought what was there.

    Parameters
    ----------
    folder : Path
        Of the search, on this machine.
    place : StoragePath
        Of the search.
    dead : str
        Id of the last lease that was held in this folder.
    patient : bool
        Wait for a lease that may be a dead driver's.
    lost : callable
        Told in another thread who has taken the search over.

    Raises
    ------
    NameTakenError
        Another process runs it.
    UsageError
        The store cannot be used.
    """
    lease, mirror = Lease(place, folder.name), Mirror(folder, place.at(STATE), growing, say)
    with explained(str(place)):
        lease.take(dead, patient, say)
        mirror.pull()
    over = threading.Event()
    tending = threading.Thread(target=_tend, args=(lease, mirror, over, lost), name="lease", daemon=True)
    tending.start()
    try:
        yield lease.id, mirror
    finally:
        over.set()
        tending.join()
        if not mirror.closed:
            _leave(lease, mirror, folder, say)


def _tend(lease: Lease, mirror: Mirror, over: threading.Event, lost: Callable[[str], object]) -> None:
    pause_s = lease.stale_s / _RENEWALS
    renewed = time.monotonic()
    while not over.wait(min(_TICK_S, pause_s)):
        try:
            if time.monotonic() - renewed >= pause_s or (mirror.away and mirror.due):
                renewed = time.monotonic()
                lease.renew()
            if mirror.due:
                mirror.catch_up()
        except LostError as other:
            mirror.closed = True
            lost(str(other))
            return
        except Exception as error:  # whatever file systems raise
            mirror.fail(error)


def _leave(lease: Lease, mirror: Mirror, folder: Path, say: Callable[[str], object]) -> None:
    try:
        if mirror.close():
            lease.release()
            return
    except (OSError, LostError):
        return  # the lease goes stale
    say(
        f"warning  the storage was away to the end: its last files are in {folder} alone. When it is back, the same "
        "command with --resume, or --sync, brings them there"
    )
