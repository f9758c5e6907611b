"""The folder of one search: claimed by one process, and what it keeps there for a resume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray import tune

from search.errors import NameTakenError, UsageError
from search.plan import Plan
from search.records import TrialRecord
from search.workloads import Data


class SearchFolder:
    """``<storage>/searches/<name>``: Optuna's journal, checkpoints of trials, leaderboard, and two files of ours.

    ``search.json`` says what is searched, ``trials.json`` what became of each trial so far.
    """

    def __init__(self, storage: Path, name: str) -> None:
        self.path = storage / "searches" / name

    def check(self, resume: bool) -> None:
        """Fail early where a new search would find its name taken, or a resumed one nothing to go on with."""
        if resume and not (self.path / "trials.json").exists():
            raise UsageError(f"--resume: no interrupted search named {self.path.name!r} is in {self.path.parent}.")
        storage = self.path.parents[1]
        try:
            storage.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--storage {storage}: cannot be made ({error.strerror}). Name another folder.") from error
        if not resume and self.path.exists():
            raise self._taken()

    def claim(self) -> None:
        """Make the folder.

        Raises
        ------
        NameTakenError
            It exists.
        UsageError
            It cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            raise UsageError(f"--storage: cannot write to {self.path.parent}: {error.strerror}.") from error

    def release(self) -> None:
        """Give the name back where nothing was kept yet."""
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _taken(self) -> NameTakenError:
        return NameTakenError(
            f"A search named {self.path.name!r} exists already, in {self.path}. If it was interrupted with Ctrl-C, go "
            "on with it with --resume; else choose another --name."
        )

    def describe(self, plan: Plan, data: Data, run_id: str) -> None:
        """Keep what a resumed search must have in common with this one, and its MLflow run."""
        self._write("search.json", {"run_id": run_id, **_identity(plan, data)})

    def run_id(self, plan: Plan, data: Data) -> str:
        """MLflow run of the search to resume.

        Raises
        ------
        UsageError
            The flags or data now are not those that it began with; names the difference.
        """
        before = json.loads((self.path / "search.json").read_text())
        now = json.loads(json.dumps(_identity(plan, data)))
        for key, value in now.items():
            if before[key] != value:
                raise UsageError(
                    f"--resume: {key} of search {plan.name!r} was {before[key]!r} and is now {value!r}. Repeat the "
                    "flags of its first command, or choose another --name."
                )
        return str(before["run_id"])

    def search_run_id(self) -> str:
        """MLflow run of the search that this folder is of."""
        return str(json.loads((self.path / "search.json").read_text())["run_id"])

    def save(self, records: Iterable[TrialRecord]) -> None:
        """Keep what became of each trial."""
        rows = [vars(record) | {"checkpoint": record.checkpoint and record.checkpoint.path} for record in records]
        self._write("trials.json", rows)

    def records(self) -> list[TrialRecord]:
        """What became of each trial of an earlier process."""
        rows = json.loads((self.path / "trials.json").read_text())
        for row in rows:
            row["checkpoint"] = tune.Checkpoint(row["checkpoint"]) if row["checkpoint"] else None
        return [TrialRecord(**row) for row in rows]

    def _write(self, name: str, content: Any) -> None:
        draft = self.path / f"{name}.tmp"
        draft.write_text(json.dumps(content, indent=1))
        draft.replace(self.path / name)


def _identity(plan: Plan, data: Data) -> dict[str, Any]:
    return {
        "workload": plan.workload.name,
        "objectives": dict(plan.goal.objectives),
        "limits": dict(plan.goal.limits),
        "objective version": data.objective_version,
        "epochs": plan.epochs,
        "data": data.fingerprint,
        **plan.space.as_dict(),
    }
