"""What a search has left, as Python objects: tables of its trials, their curves, the best model; from its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from search.config.settings import Site
from search.config.spec import unknown
from search.engine.isolation import undisturbed
from search.engine.trial_result import TrialResult, draw_figures
from search.errors import SearchError, UsageError
from search.reporting.html.load import read_search
from search.storage.event_log import read_entries
from search.storage.location import Storage
from search.storage.names import EVENT_LOG
from search.storage.search_dir import SearchDir
from search.tuning.study import load_study
from search.workload import Chain, Workload

if TYPE_CHECKING:
    import optuna

    from search.engine.trial_result import Picture
    from search.reporting.leaderboard import Leaderboard, Row

_CODES = {"interrupted": 130, "failed": 1}
_FIRST = ("number", "label", "outcome", "reason", "value", "error")
_LAST = ("epoch", "best_epoch", "seconds", "run_id")


class SearchRun:
    """One search as its directory describes it at this moment; of one that is running, ``search.load`` gives it anew.

    ``name``, ``path`` of its directory, ``state`` (finished, running, interrupted, failed), ``run_id`` of its MLflow
    run (empty: no server has it), ``workload`` (None: it is not known here), and what the methods describe.
    """

    def __init__(self, site: Site, name: str, workload: Workload | None = None) -> None:
        self._site, self._snapshot = site, read_search(Storage(site.storage), name)
        self._last: Mapping[str, Any] = self._snapshot.description
        self.name, self.path, self.state = name, self._snapshot.path, self._snapshot.state
        self.run_id: str = self._last.get("facts", {}).get("run_id", "")
        self.workload = workload or self._snapshot.workload

    @property
    def code(self) -> int | None:
        """Exit code of the command: 0 a trial is complete, 1 none is, 130 interrupted; None: it is running."""
        if self.state == "running":
            return None
        return _CODES.get(self.state, 0 if self.leaderboard.best else 1)

    @property
    def interrupted(self) -> bool:
        """Whether it was ended before its trials were: ``search.run(..., name=..., resume="yes")`` goes on with it."""
        return self.state == "interrupted"

    @property
    def leaderboard(self) -> Leaderboard:
        """The ranked trials with naive predictors and published results; ``print(result.leaderboard.as_csv())``."""
        return self._snapshot.leaderboard

    @property
    def trials(self) -> pd.DataFrame:
        """One line a trial, in the order of the leaderboard: complete ones first, the best one at the top.

        ``value`` is the first objective of the last epoch of a complete trial, ``error`` its statistical error. Then
        come objectives and metrics of the leaderboard, hyperparameters (one whose name is taken already begins with
        ``hyperparameter_``), epochs, seconds of computing, and the id of the MLflow run. A trial that is not complete
        has no metrics here, because its value is not comparable: ``curves`` has them.
        """
        rows = [row for row in self.leaderboard.rows if row.number is not None]
        metrics = list(dict.fromkeys([*self.leaderboard.objectives, *(name for row in rows for name in _beside(row))]))
        taken = {*_FIRST, *metrics, *_LAST}
        points = dict.fromkeys(name for row in rows for name in row.hyperparameters)
        names = {name: f"hyperparameter_{name}" if name in taken else name for name in points}
        lines = [self._line(row) | {names[name]: one for name, one in row.hyperparameters.items()} for row in rows]
        table = pd.DataFrame(lines, columns=[*_FIRST, *metrics, *names.values(), *_LAST])
        return table.astype(dict.fromkeys(("value", "error", *metrics), float))

    def _line(self, row: Row) -> dict[str, Any]:
        objectives = {name: row.metrics[name] for name in self.leaderboard.objectives if name in row.metrics}
        return {
            "number": row.number,
            "label": row.label,
            "outcome": self._snapshot.outcome_of(self._snapshot.by_number[row.number or 0]),
            "reason": row.reason,
            "value": row.value,
            "error": row.extra_metrics.get("error"),
            **_beside(row),
            **objectives,
            "epoch": row.epoch,
            "best_epoch": row.best_epoch,
            "seconds": row.seconds,
            "run_id": self._run_ids.get(row.number or 0, ""),
        }

    @cached_property
    def _run_ids(self) -> dict[int, str]:
        """Ids of the trials' MLflow runs, by number; none where no server has them, or it does not answer."""
        if not self.run_id or self._site.offline:
            return {}
        storage = self._snapshot.path.parents[1]
        if self._site.server is None and not (storage / "mlflow" / "mlflow.db").exists():
            return {}  # opening it would make it
        with undisturbed("search.tracking.trial_runs"):  # only here, as MLflow takes seconds
            from search.tracking.client import client_of
            from search.tracking.run_info import RunFacts
            from search.tracking.server_calls import RefusedError, UnavailableError
            from search.tracking.trial_runs import TrialRuns

            runs = TrialRuns(client_of(self._site.server, storage), RunFacts(**self._last["facts"]))
            try:
                runs.find()
            except (RefusedError, UnavailableError):
                return {}
        return runs.ids

    def curves(self, metric: str | None = None) -> pd.DataFrame:
        """Return one metric, or the first objective, at each epoch (lines) of each trial (columns: their labels).

        Raises
        ------
        UsageError
            No epoch of any trial has this metric.
        """
        metric, seen = metric or self.leaderboard.objective, dict[str, None]()
        columns: dict[int, dict[int, float]] = {}
        for entry in read_entries(self.path / EVENT_LOG):
            if entry.event == "epoch_ended":
                metrics = entry.content["metrics"]
                seen |= dict.fromkeys(metrics)
                if metric in metrics:
                    columns.setdefault(entry.content["number"], {})[entry.content["epoch"]] = metrics[metric]
        if seen and metric not in seen:
            raise unknown("metric", metric, tuple(seen))
        rows = [row for row in self.leaderboard.rows if row.number in columns]
        table = pd.DataFrame({row.label: pd.Series(columns[row.number or 0], dtype=float) for row in rows})
        return table.sort_index().rename_axis(index="epoch")

    @property
    def best(self) -> TrialResult:
        """The first trial of the leaderboard; raises SearchError where no trial is complete."""
        if (best := self.leaderboard.best) is None:
            raise SearchError(f"No trial of search {self.name!r} is complete: there is no best one.")
        return TrialResult(self._snapshot, best, self.workload)

    @property
    def front(self) -> list[TrialResult]:
        """The Pareto front of several objectives; of one, the best trial."""
        return [TrialResult(self._snapshot, row, self.workload) for row in self.leaderboard.front]

    def trial(self, label: str | int) -> TrialResult:
        """Return the trial of this label or number; raises UsageError where there is none."""
        rows = {row.label: row for row in self.leaderboard.rows if row.number is not None}
        found = next((row for row in rows.values() if label in (row.label, row.number)), None)
        if found is None:
            raise unknown(f"trial of search {self.name!r}", str(label), tuple(rows))
        return TrialResult(self._snapshot, found, self.workload)

    @property
    def figures(self) -> dict[str, Picture]:
        """Figures of the best trial, and those that compare it with others (``comparison/...``), by file name."""
        return draw_figures(self._snapshot, self.workload)

    @property
    def study(self) -> optuna.Study:
        """Optuna's study, read from ``optuna.journal``: for reading, as the search may be resumed."""
        if (study := load_study(self.path, self.name)) is None:
            raise SearchError(f"Search {self.name!r} has asked for no point yet: it has no study.")
        return study

    @cached_property
    def validation(self) -> Any:
        """The events on which trials were scored, as the workload's data hold them; the files are read again.

        Raises
        ------
        SearchError, DataError
            The workload is not known here; the files are gone, or have changed.
        """
        directory = SearchDir(Storage(self._site.storage), self.name)
        with undisturbed("search.engine.recorded_data"):
            from search.engine.recorded_data import load_recorded_data

            return load_recorded_data(self.require_workload(), directory, self._site).validation

    def require_workload(self) -> Workload:
        """Return the workload; raises SearchError where it is not known here."""
        return require_workload(self.workload, self._last["workload"], self.name)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.leaderboard.outcomes.items())
        return f"<search {self.name}, {self.state}: {counts or 'no trial'}>"

    def _repr_html_(self) -> str:
        table = self.trials.drop(columns=["run_id", "best_epoch"]).dropna(axis="columns", how="all")
        heading = f"<b>{escape(self.name)}</b>, {self.state}: {escape(str(self.leaderboard.goal))}"
        return f"<p>{heading}</p>{table.to_html(index=False, max_rows=30)}"


class ChainRun:
    """The searches of a chain, one after another, and the table at their end.

    ``name``, ``code`` (None: not known), ``interrupted``, ``searches``: workload -> ``SearchRun``, as far as they have
    begun.
    """

    def __init__(self, site: Site, name: str, chain: Chain, code: int | None = None) -> None:
        self.name = name
        begun = _begun(Storage(site.storage), name, chain)
        self.searches = {workload: SearchRun(site, f"{name}.{workload}") for workload in begun}
        self._last = chain.workloads[-1]
        self.interrupted = any(run.interrupted for run in self.searches.values())
        self.code = code if code is not None else max((run.code or 0 for run in self.searches.values()), default=None)

    @property
    def table(self) -> pd.DataFrame:
        """The table at the end of the chain; raises SearchError before that."""
        last = self.searches.get(self._last)
        if last is None or not (last.path / "chain.json").exists():
            raise SearchError(f"Chain {self.name!r} has not ended: it has no table yet.")
        rows = json.loads((last.path / "chain.json").read_text())["rows"]
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        return f"<chain {self.name}: {', '.join(map(repr, self.searches.values()))}>"


def load_search(site: Site, name: str, workload: Workload | None, chains: Mapping[str, Chain]) -> SearchRun | ChainRun:
    """Read the search, or the chain, of that name; raises UsageError where there is none."""
    try:
        return SearchRun(site, name, workload)
    except UsageError:
        for chain in chains.values():
            if _begun(Storage(site.storage), name, chain):
                return ChainRun(site, name, chain)
        raise


def _begun(storage: Storage, name: str, chain: Chain) -> list[str]:
    """Return the workloads whose searches a chain of that name has begun."""
    folders = {workload: SearchDir(storage, f"{name}.{workload}") for workload in chain.workloads}
    for folder in folders.values():
        folder.fetch()
    return [workload for workload, folder in folders.items() if folder.begun]


def require_workload(workload: Workload | None, name: str, search: str) -> Workload:
    """Return the workload of a search; raises SearchError where it is not known here."""
    if workload is None:
        raise SearchError(
            f"The workload {name!r} of search {search!r} is not known here: search.load({search!r}, workload=...)."
        )
    return workload


def _beside(row: Row) -> dict[str, float]:
    """Return the metrics of the leaderboard beside the objective, under its names; the error has a column already."""
    return {name: value for name, value in row.extra_metrics.items() if name != "error"}
