"""The folder of one search: held by one process at a time, and what it keeps there for the next one."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from search.config.spec import Plan
from search.errors import NameTakenError, UsageError
from search.storage.disk import to_stderr, write_atomically
from search.storage.event_log import mend, read, records_of
from search.storage.location import Storage, StoragePath, explained
from search.storage.remote.lease import Lease
from search.storage.remote.mirror import Mirror
from search.storage.remote.session import STATE, remote_session
from search.storage.trial_record import TrialRecord
from search.workloads import Data
from trainables.data.files import DataSettings

JOURNAL, STUDY, DESCRIPTION, LEADERBOARD = "search.journal", "optuna.journal", "search.json", "leaderboard.json"
_GROWING = (JOURNAL, STUDY)  # the study knows each trial before the journal does


class SearchFolder:
    """``<storage>/searches/<name>``: our journal and Optuna's, checkpoints of trials, leaderboard, description.

    Where the storage is a URL the checkpoints are there, in ``place``; all else is in ``path`` on this machine, and a
    copy of it there. Raises UsageError where a name would lead out of that folder.
    """

    def __init__(self, storage: Storage | Path, name: str) -> None:
        if Path(name).name != name or name in ("", ".."):
            raise UsageError(f"There is no search {name!r}: expected the name of one, not a path.")
        self.storage = storage if isinstance(storage, Storage) else Storage(storage)
        self.path = self.storage.folder / "searches" / name
        self.mirror: Mirror | None = None  # of a search in a URL that this process holds
        self.lost: Callable[[str], object] = lambda _other: None  # called when another process has taken it over

    @cached_property
    def place(self) -> StoragePath:
        """Where its trials leave their checkpoints."""
        return self.storage.place.at("searches", self.path.name)

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def begun(self) -> bool:
        """A search of this name has got as far as its first trial."""
        return (self.path / DESCRIPTION).exists()

    @contextmanager
    def held(self, patient: bool = False, say: Callable[[str], object] = to_stderr) -> Iterator[None]:
        """Make the folder if need be, and keep other processes out of it.

        Parameters
        ----------
        patient : bool
            In a URL: wait whether a driver on another machine, which may be dead, is heard of again.
        say : callable
            In a URL: told of waiting, and of a store that is away.

        Raises
        ------
        NameTakenError
            Another process is running this search. (A process that died holds nothing; one that died on another
            machine holds it in a URL for ``lease.stale_s``.)
        UsageError
            It cannot be made.
        """
        with self._locked() as owner, self._held_afar(owner, patient, say):
            yield

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """On this machine; yields the file that says who holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--storage: cannot write to {self.path.parent} ({error.strerror}). Name another."
            ) from error
        lock, owner = FileLock(self.path / "lock"), self.path / "owner.json"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise NameTakenError(
                f"A search named {self.path.name!r} is running now: {_owner(owner)}. Choose another --name, or wait."
            ) from None
        try:
            yield owner
        finally:
            owner.unlink(missing_ok=True)
            lock.release()
            if not self.begun and not (self.path / "token").exists():
                shutil.rmtree(self.path, ignore_errors=True)  # nothing was begun: the name is free again
                with suppress(OSError):
                    self.path.parent.rmdir()  # unless there are others

    @contextmanager
    def _held_afar(self, owner: Path, patient: bool, say: Callable[[str], object]) -> Iterator[None]:
        """On all machines, where the storage is a URL."""
        before = _lease(owner)
        _write_owner(owner, before)
        if not self.storage.url:
            yield
            return
        how: dict[str, Any] = {"dead": before, "patient": patient, "say": say, "lost": lambda who: self.lost(who)}
        with remote_session(self.path, self.place, _GROWING, **how) as (lease, self.mirror):
            _write_owner(owner, lease)
            try:
                yield
            finally:
                self.mirror = None

    # --- in a URL

    def push(self) -> None:
        """What is written down is to be safe there, too."""
        if self.mirror is not None:
            self.mirror.push()

    def delivered_up_to(self) -> float:
        """Bytes of the journal that others may hear of: what another machine would go on from."""
        return self.mirror.length(JOURNAL) if self.mirror is not None else math.inf

    def fetch(self) -> None:
        """Bring what is newer there, for whoever wants to read it; a search that runs here is newest here."""
        if not self.storage.url:
            return
        with explained(str(self.place)):
            if not self.place.at(STATE).listed():
                return
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout), FileLock(self.path / "lock", timeout=0):
                Mirror(self.path, self.place.at(STATE), _GROWING, to_stderr).pull()

    def held_elsewhere(self) -> bool:
        """Whether a driver on another machine may be running it."""
        if not self.storage.url:
            return False
        with explained(str(self.place)):
            return Lease(self.place, self.path.name).is_fresh()

    def share(self, *names: str) -> None:
        """Files that were written after the end of the search."""
        for name in names if self.storage.url else ():
            with explained(str(self.place)):
                self.place.at(STATE).write(name, (self.path / name).read_bytes())

    # --- a name

    def refuse_if_taken(self) -> None:
        """A new search must not take the name of one that is there.

        Raises
        ------
        NameTakenError
            Tells the two ways out.
        """
        if self.begun:
            raise NameTakenError(
                f"A search named {self.path.name!r} exists already, in {self.where}. Go on with it with --resume, or "
                "choose another --name."
            )

    @property
    def where(self) -> str:
        """For people: the folder, or the URL."""
        return str(self.place) if self.storage.url else str(self.path)

    def token(self) -> str:
        """One word for this search in MLflow, the same after a death before its description was written."""
        file = self.path / "token"
        if not file.exists():
            write_atomically(file, uuid4().hex)
            self.push()
        return file.read_text()

    def mend(self) -> None:
        """Cut off what a killed process or a full disk left half-written."""
        for name in (JOURNAL, STUDY):
            mend(self.path / name)

    # --- what the search is

    def describe(self, plan: Plan, data: Data, settings: DataSettings, **more: Any) -> None:
        """Keep what a resumed search must have in common with this one, and its number of trials.

        Parameters
        ----------
        settings : DataSettings
            By which its data are found again.
        more : JSON values
            What later commands need of it: ``facts`` and ``own_run`` (its MLflow runs), ``branches``, ``method``,
            ``commit``.
        """
        where = settings.absolute().model_dump(mode="json")
        self._write({**more, "settings": where, "trials": plan.trials, **_identity(plan, data)})

    def set(self, **changed: Any) -> None:
        """Change what is kept of it, all at once or not at all."""
        self._write({**self.description(), **changed})

    def description(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / DESCRIPTION).read_text())
        return content

    def _write(self, content: dict[str, Any]) -> None:
        write_atomically(self.path / DESCRIPTION, json.dumps(content, indent=1))
        self.push()

    def require_same(self, plan: Plan, data: Data | None = None) -> None:
        """The search that goes on must be the one that began; without data as far as the flags say.

        Raises
        ------
        UsageError
            The flags or data now are not those that it began with; names the difference.
        """
        before = self.description()
        now = json.loads(json.dumps(_identity(plan, data)))
        for key, value in now.items():
            if before[key] != value:
                raise UsageError(
                    f"--resume: {key} of search {plan.name!r} was {before[key]!r} and is now {value!r}. Repeat the "
                    "flags of its first command, or choose another --name."
                )

    # --- what became of it

    def records(self) -> list[TrialRecord]:
        """What became of each trial so far; those that nobody ended were interrupted."""
        files = self.place.files if self.storage.url else None
        records = list(records_of(read(self.journal), files).values())
        for record in records:
            record.outcome = record.outcome or "interrupted"
        return records

    def ending(self) -> str | None:
        """How it ended last, as MLflow names it; None while it runs, and where it had no time to say."""
        last = None
        for entry in read(self.journal):
            last = entry
        return last.content["status"] if last is not None and last.event == "search_ended" else None

    def ended_well(self) -> bool:
        """NullExporter interrupted it, and nothing broke it; a time limit may have cut it short."""
        return self.ending() == "FINISHED"

    def ended(self, samples: int) -> bool:
        """All trials have ended, and the search itself in good order."""
        records = self.records()
        whole = self.ended_well() and len(records) >= samples
        return whole and not any(record.outcome == "interrupted" for record in records)


def _write_owner(file: Path, lease: str) -> None:
    file.write_text(json.dumps({"host": platform.node(), "pid": os.getpid(), "lease": lease}))


def _lease(owner: Path) -> str:
    """That of the process which held the folder last, where it could not say goodbye."""
    try:
        return str(json.loads(owner.read_text()).get("lease", ""))
    except (OSError, ValueError):
        return ""


def _owner(file: Path) -> str:
    try:
        owner = json.loads(file.read_text())
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        return "by another process"


def _identity(plan: Plan, data: Data | None) -> dict[str, Any]:
    about_data = {"objective version": data.objective_version, "data": data.fingerprint} if data else {}
    return {
        "workload": plan.workload.name,
        "objectives": dict(plan.goal.objectives),
        "limits": dict(plan.goal.limits),
        "epochs": plan.epochs,
        **about_data,
        **plan.space.as_dict(),
    }
