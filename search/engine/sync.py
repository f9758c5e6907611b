"""Delivers what a search could not tell MLflow while it ran: python -m search.run --sync NAME."""

from __future__ import annotations

from rich.console import Console

from search.config.flags import Sync
from search.config.settings import Site
from search.engine.prepare import known_facts
from search.errors import TrackingError, UsageError
from search.reporting.summary import Summary
from search.storage.disk import on_network_file_system
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.tracking.client import MlflowClient, client_of, open_experiment, require_run
from search.tracking.events import StagedFiles
from search.tracking.exporter import MlflowExporter
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.run_info import RunFacts
from trainables.base.objectives import Goal


def sync(command: Sync, console: Console) -> None:
    """Deliver the rest of the journal; all of it where the search ran with ``--tracking-uri journal``.

    Raises
    ------
    UsageError
        There is no such search, no server is named, or it is not the one that the search was told to first.
    NameTakenError
        It is running.
    TrackingError
        MLflow is still away.
    """
    summary, site = Summary(console), Site(storage=command.storage, tracking_uri=command.tracking_uri)
    storage = Storage.of(site)
    folder = SearchDir(storage, command.sync)
    folder.fetch()
    if not folder.begun:
        raise UsageError(f"--sync: no search named {command.sync!r} is in {storage}.")
    with folder.locked(say=summary.say):
        folder.repair()
        client, facts = _known(site, storage, folder)
        about, staged = folder.description(), StagedFiles(folder.path)
        target = MlflowWriter(client, facts, Goal(about["objectives"], about["limits"]), staged)
        exporter = MlflowExporter(folder.event_log, target, summary.say)
        waiting = exporter.behind
        exporter.start()
        if not exporter.close():
            raise TrackingError(
                f"MLflow is still away; {exporter.behind} of {waiting} entries wait in {folder.event_log}. "
                "Check --tracking-uri (or $MLFLOW_TRACKING_URI), or try again later."
            )
        summary.say(f"sync     {waiting} entries delivered; MLflow has all of search {command.sync}")
        summary.tell_refused(exporter.refused)


def _known(site: Site, storage: Storage, folder: SearchDir) -> tuple[MlflowClient, RunFacts]:
    """Where to deliver, and the search's own run there, which is made at the first time."""
    about = folder.description()
    facts = RunFacts(**about["facts"])
    if facts.run_id:
        client = client_of(site.server, storage.folder)
        require_run(client, facts)
        return client, facts
    if site.server is None and on_network_file_system(storage.folder):
        raise UsageError(
            "--sync: no server is named, and a database in --storage would lie on a network file system, where SQLite "
            "locks badly. Name a server with --tracking-uri (or $MLFLOW_TRACKING_URI)."
        )
    experiment = open_experiment(site.server, storage.folder, about["workload"])
    return experiment.client, known_facts(experiment, folder)
