"""Run a search whose storage is a URL: hold its lease and its mirror, and keep both up to date in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from search.storage.location import StoragePath, readable_errors
from search.storage.names import APPEND_ONLY, STATE
from search.storage.remote.lease import Lease, LeaseLostError
from search.storage.remote.mirror import Mirror

_RENEWALS = 6  # of a lease before it would be stale
_TICK_S = 1.0


@contextmanager
def remote_session(
    folder: Path,
    place: StoragePath,
    *,
    former_lease: str,
    wait: bool,
    say: Callable[[str], object],
    on_taken_over: Callable[[str], object],
) -> Iterator[tuple[str, Mirror]]:
    """Become the one driver of a search; yield the lease's id, and the mirror, which has fetched the files.

    Parameters
    ----------
    folder : Path
        Of the search, on this machine.
    place : StoragePath
        Of the search, in the URL.
    former_lease : str
        Id of the last lease that was held in this folder.
    wait : bool
        Wait for a lease that may be a dead driver's.
    on_taken_over : callable
        Called in another thread, with the process that runs the search now.

    Raises
    ------
    NameTakenError
        Another process runs the search.
    UsageError
        The store cannot be used.
    """
    lease, mirror = Lease(place, folder.name), Mirror(folder, place.joinpath(STATE), APPEND_ONLY, say)
    with readable_errors(str(place)):
        lease.acquire(former_lease, wait, say)
        mirror.fetch()
    ended = threading.Event()
    thread = threading.Thread(target=_maintain, args=(lease, mirror, ended, on_taken_over), name="lease", daemon=True)
    thread.start()
    try:
        yield lease.id, mirror
    finally:
        ended.set()
        thread.join()
        if not mirror.closed:
            _leave(lease, mirror, folder, say)


def _maintain(lease: Lease, mirror: Mirror, ended: threading.Event, on_taken_over: Callable[[str], object]) -> None:
    """Renew the lease and send what is due until the session ends or another process has taken the search over."""
    pause_s = lease.stale_s / _RENEWALS
    renewed = time.monotonic()
    while not ended.wait(min(_TICK_S, pause_s)):
        try:
            if time.monotonic() - renewed >= pause_s or (mirror.unavailable and mirror.due):
                renewed = time.monotonic()
                lease.renew()
            if mirror.due:
                mirror.catch_up()
        except LeaseLostError as other:
            mirror.closed = True
            on_taken_over(str(other))
            return
        except Exception as error:  # whatever file systems raise
            mirror.report_failure(error)


def _leave(lease: Lease, mirror: Mirror, folder: Path, say: Callable[[str], object]) -> None:
    """Send the rest and release the lease; otherwise the lease goes stale by itself."""
    try:
        if mirror.close():
            lease.release()
            return
    except (OSError, LeaseLostError):
        return
    say(
        f"warning  the storage was away to the end: its last files are in {folder} alone. When it is back, the same "
        "command with --resume, or --sync, brings them there"
    )
