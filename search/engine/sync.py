"""Export what a search could not send to MLflow while it ran: python -m search.run --sync NAME."""

from __future__ import annotations

from search.config.flags import SyncFlags
from search.config.provenance import command_line
from search.config.settings import Site
from search.engine.export_rest import make_exporter
from search.engine.prepare import known_facts
from search.errors import TrackingError, UsageError
from search.reporting.console import SafeConsole, libraries_logged
from search.reporting.summary import ConsoleReporter
from search.storage.disk import on_network_file_system
from search.storage.location import Storage
from search.storage.names import LOG
from search.storage.search_dir import SearchDir
from search.tracking.client import MlflowClient, client_of, open_experiment, require_run
from search.tracking.run_info import RunFacts

ALL_DELIVERED, SOME_MISSING = 0, 1  # exit codes


def sync(flags: SyncFlags, console: SafeConsole) -> int:
    """Export the rest of the event log; all of it where the search ran with ``--tracking-uri journal``.

    What MLflow refused before is tried again. Return ``SOME_MISSING`` if it still does not take something.

    Raises
    ------
    UsageError
        There is no such search, no server is named, or it is not the one to which the search was exported first.
    NameTakenError
        It is running.
    TrackingError
        MLflow is still away.
    """
    reporter, site = ConsoleReporter(console), Site(storage=flags.storage, tracking_uri=flags.tracking_uri)
    storage = Storage.of(site)
    directory = SearchDir(storage, flags.sync)
    with reporter.announcing(f"sync     fetching search {flags.sync} from {storage} ..."):
        directory.fetch()
    if not directory.begun:
        raise UsageError(f"--sync: no search named {flags.sync!r} is in {storage}.")
    with libraries_logged(console.log_file), directory.locked(say=reporter.print_line):
        console.log_file.open(directory.path / LOG, command_line())
        directory.repair()
        with reporter.announcing("mlflow   asking the server ..."):
            client, facts = _known(site, storage, directory)
            exporter = make_exporter(client, facts, directory, reporter)
            waiting = exporter.behind
        with reporter.announcing(f"mlflow   exporting {waiting} entries and their files ..."):
            exporter.start()
            delivered = exporter.close()
        if not delivered:
            raise TrackingError(
                f"MLflow is still away; {exporter.behind} of {waiting} entries wait in {directory.event_log}. "
                "Check --tracking-uri (or $MLFLOW_TRACKING_URI), or try again later."
            )
    if not exporter.missing:
        reporter.print_line(f"sync     {waiting} entries delivered; MLflow has all of search {flags.sync}")
        return ALL_DELIVERED
    reporter.print_line(f"sync     {waiting} entries delivered; MLflow lacks a part of search {flags.sync}")
    reporter.print_missing(exporter.missing)
    reporter.print_line("warning  all of it is kept. Once the reason is gone, the same command delivers it")
    return SOME_MISSING


def _known(site: Site, storage: Storage, directory: SearchDir) -> tuple[MlflowClient, RunFacts]:
    """Return the client, and the facts of the search's own run, which is created the first time."""
    about = directory.description()
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
    return experiment.client, known_facts(experiment, directory)
