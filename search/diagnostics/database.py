"""Whether a tracking database opens, and has the tables of the MLflow that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from search.config.redaction import first_line, without_passwords
from search.diagnostics.finding import Finding, fine, warning, wrong
from search.diagnostics.probes.network import reach_port
from search.tracking.artifact_location import moved_problem
from search.workloads import WORKLOADS


def check_database(uri: str) -> Iterator[Finding]:
    """Read the schema without MLflow, because MLflow would migrate some old ones, or make a new one."""
    shown, installed = without_passwords(uri), version("mlflow")
    try:
        revision = _revision(uri)
    except (SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        fix = "start the database; correct --tracking-uri (or $MLFLOW_TRACKING_URI), or its password in ~/.pgpass"
        yield wrong(f"database {shown}", first_line(error), "one that opens", fix)
        return
    migrations = _migrations()
    head = str(migrations.get_current_head())
    if revision == head:
        yield fine("tracking", f"{shown}: its schema is that of MLflow {installed}")
        yield from _check_artifacts(uri)
    elif revision is None:
        yield fine("tracking", f"{shown}: empty; the first search makes its tables")
    elif _has_revision(migrations, revision):
        fix = f"back it up, then: mlflow db upgrade {quote(shown)}"
        yield wrong(f"schema of {shown}", revision, f"{head}, of MLflow {installed}", fix)
    else:
        found = f"{revision}, of a newer MLflow than {installed}"
        yield wrong(f"schema of {shown}", found, head, "pip install --upgrade mlflow, to the version that wrote it")


def _check_artifacts(uri: str) -> Iterator[Finding]:
    """Look for experiments whose files would lie where the database was before it was moved."""
    with _engine(uri).connect() as connection:
        places = connection.execute(sqlalchemy.text("select name, artifact_location from experiments")).all()
    for name, location in places:
        if name in WORKLOADS and (problem := moved_problem(uri, location)):
            yield warning(f"artifacts of experiment {name}", problem)


def _revision(uri: str) -> str | None:
    """Return the revision of a database's schema; None: it has no schema yet."""
    with _engine(uri).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _engine(uri: str) -> sqlalchemy.Engine:
    """Return how to connect to a database that is there, and to an SQLite file for reading only."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        file = Path(uri.removeprefix("sqlite:///"))
        if not file.exists():
            raise FileNotFoundError(f"no file {file}")
        uri = f"sqlite:///file:{file}?mode=ro&uri=true"
    elif parts.hostname and parts.port:
        status, reason = reach_port(parts.hostname, parts.port)
        if not status:
            raise ConnectionError(reason)
    return sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)


def _migrations() -> ScriptDirectory:
    """The migrations of the schema that come with MLflow."""
    spec = importlib.util.find_spec("mlflow")
    assert spec
    assert spec.origin
    return ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations"))


def _has_revision(migrations: ScriptDirectory, revision: str) -> bool:
    try:
        return migrations.get_revision(revision) is not None
    except CommandError:
        return False
