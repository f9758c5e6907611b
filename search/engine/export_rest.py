"""Export what waits of a search that does not run now."""

from __future__ import annotations

from search.config.settings import Site
from search.errors import UsageError
from search.reporting.summary import ConsoleReporter
from search.storage.search_dir import SearchDir
from search.tracking.client import MlflowClient, client_of, require_run
from search.tracking.events import StagedFiles
from search.tracking.exporter import MlflowExporter
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.run_info import RunFacts
from trainables.base.objectives import Goal, read_constraints


def export_rest(site: Site, directory: SearchDir, reporter: ConsoleReporter) -> None:
    """Export what still waits of a search that has ended, where it asks a server; say what is missing then.

    Call it while the directory is locked.
    """
    facts = RunFacts(**directory.description()["facts"])
    if site.offline or not facts.run_id:
        return
    client = client_of(site.server, directory.storage.folder)
    exporter = make_exporter(client, facts, directory, reporter)
    if not exporter.has_work:
        return
    try:
        require_run(client, facts)
    except UsageError as error:
        reporter.print_line(f"warning  {error}")
        return
    exporter.start()
    exporter.close()
    reporter.print_export(exporter, directory.path.name, site)


def make_exporter(
    client: MlflowClient, facts: RunFacts, directory: SearchDir, reporter: ConsoleReporter
) -> MlflowExporter:
    """Make the exporter of a search that does not run now."""
    about = directory.description()
    goal = Goal(about["objectives"], read_constraints(about["limits"]))
    writer = MlflowWriter(client, facts, goal, StagedFiles(directory.path))
    return MlflowExporter(directory.event_log, writer, reporter.print_line)
