"""Laws of the checks on one machine: each fault is found and named with what fixes it, and nothing else is accused."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import tables
from broken import wait_until
from bucket import SECRETS, USER, Bucket
from proxy import free_port
from server import MlflowServer, Postgres, running_server
from test_disk import mounted
from tiny import make_tiny
from zdc_files import flat_branches, showers, write

import search.doctor
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding
from search.diagnostics.probes.storage import exchange_tokens, read_token, write_token
from search.diagnostics.runner import CHECKS, Check, findings_of, run_checks
from search.tracking.client import MlflowClient, embedded_uri
from search.workload import Workload
from search.workloads import WORKLOADS
from trainables.data.table_loader import TableLoader

ROOT = Path(__file__).parents[1]
PASSWORD = "of-the-admin-of-the-tests"


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Callable[..., DiagnosticContext]]:
    """``context(storage=..., ...)``: what is to be checked, without a cluster."""
    made = []

    def make(**changes: Any) -> DiagnosticContext:
        flags: dict[str, Any] = {
            "address": None,
            "server": None,
            "storage": str(tmp_path / "results"),
            "data": (),
            "workload": None,
            "cpus_per_trial": 1,
            "gpus_per_trial": None,
            "time_limit_s": 60.0,
        }
        made.append(DiagnosticContext(**flags | changes))
        return made[-1]

    yield make
    for one in made:
        one.closed.set()


def found(check: str, context: DiagnosticContext) -> list[Finding]:
    return list(findings_of(check, context))


def bad(check: str, context: DiagnosticContext) -> list[Finding]:
    return [finding for finding in found(check, context) if finding.level != "fine"]


def the_one(check: str, context: DiagnosticContext) -> Finding:
    """The only thing that is not fine."""
    (finding,) = bad(check, context)
    return finding


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


# --- the words


def test_a_finding_is_one_line_with_its_fix_and_without_passwords() -> None:
    finding = Finding("wrong", "server http://me:secret@host", "no\nanswer", "MLflow", "start it")
    assert finding.line == "wrong    server http://host: found no answer, expected MLflow; fix: start it"
    assert Finding("fine", "clocks", "within 0.01 s").line == "fine     clocks: within 0.01 s"


# --- checks that fail or hang


def test_a_check_that_crashes_is_wrong_and_keeps_its_traceback(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    file = write(tmp_path / "a.root", "mytree", flat_branches("mytree", showers()))
    crashed = the_one("data", context(data=(file,), workload="no such workload"))
    assert crashed.level == "wrong"
    assert "UsageError" in crashed.found
    assert "find_workload" in crashed.details


def test_a_check_that_hangs_is_wrong_and_the_next_one_is_made(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    pipe = tmp_path / "a.root"  # opening it blocks until there is a writer
    os.mkfifo(pipe)
    reported = []
    for check, finding in run_checks(
        context(data=(str(pipe),), time_limit_s=2.0, address="http://127.0.0.1:1"), ("data", "upload")
    ):
        if finding:
            reported.append((check, finding))
    (hung,) = [finding for check, finding in reported if check == "data"]
    assert hung.line.startswith("wrong    check of data: found no end within 2 s")
    assert "upload" in [check for check, _ in reported]
    with pipe.open("wb"):
        pass  # let it go


def test_every_check_of_the_command_line_has_its_module() -> None:
    from typing import get_args

    assert get_args(Check) == CHECKS
    for check in CHECKS:
        assert (ROOT / "search" / "diagnostics" / f"{check}.py").exists()


# --- this machine


def test_too_few_open_files_are_reported(context: Callable[..., DiagnosticContext]) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert not bad("machine", context())
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        reported = the_one("machine", context())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "at most 1024" in reported.found
    assert reported.fix.startswith("ulimit -n 65536")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OMP_NUM_THREADS", "1000", "more threads"),
        ("RAY_TMPDIR", "/tmp/" + 60 * "x", "longer path"),
        ("MLFLOW_TRACKING_URI", "http://me:secret@host", "password"),
        ("RAY_CHDIR_TO_TRIAL_DIR", "1", "relative paths"),
        ("RAY_memory_monitor_refresh_ms", "0", "takes all memory"),
        ("TUNE_DISABLE_STRICT_METRIC_CHECKING", "0", "diverges"),
    ],
)
def test_a_variable_that_gets_in_the_way_is_reported(
    context: Callable[..., DiagnosticContext], monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    reported = the_one("machine", context())
    assert reported.what == f"{name} on this machine"
    assert reason in reported.found
    assert "secret" not in reported.line


def test_a_proxy_that_stands_between_is_reported(
    context: Callable[..., DiagnosticContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    assert not bad("machine", context())
    assert the_one("machine", context(address="head:6379")).fix == "export no_proxy=$no_proxy,head"
    assert not bad("machine", context(address="auto"))  # this machine's own


@pytest.mark.parametrize(
    ("address", "no_proxy", "between"),
    [
        ("head:6379", "localhost,head", False),
        ("head:6379", "localhost, head:6379", False),
        ("head", "head:6379", False),  # Ray's own port
        ("head:6380", "head:6379", True),
        ("head.site.example.org:6379", ".example.org", False),
        ("head.site.example.org:6379", "site.example.org", False),
        ("ahead:6379", "head", True),
        ("10.1.2.3:6379", "10.0.0.0/8", False),
        ("11.1.2.3:6379", "10.0.0.0/8", True),
        ("[fd00::1]:6379", "fd00::1", False),
        ("head:6379", "*", False),
    ],
)
def test_exceptions_from_a_proxy_are_read_as_requests_reads_them(
    context: Callable[..., DiagnosticContext],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    no_proxy: str,
    between: bool,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    found = [finding for finding in bad("machine", context(address=address)) if finding.what == "proxy"]
    assert bool(found) is between


SCRIPT = """
import sys
sys.path[:0] = sys.argv[3:]
from search.diagnostics.runner import findings_of
from search.diagnostics.context import DiagnosticContext
context = DiagnosticContext(None, None, "/nowhere", (), None, 1, None, 60.0)
for finding in findings_of(sys.argv[1], context):
    print(finding.line)
"""


def alone(check: str, cwd: Path, *path: Path) -> list[str]:
    """The lines of a check in a fresh Python that looks for packages in these folders first."""
    words = [sys.executable, "-c", SCRIPT, check, "", *map(str, path)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


def test_a_folder_that_hides_a_package_is_named(tmp_path: Path) -> None:
    """Pitfall 23."""
    (tmp_path / "mlflow").mkdir()
    assert alone("versions", tmp_path, tmp_path)[0].startswith(
        "fine     versions: "
    )  # without an __init__.py it does not
    (tmp_path / "mlflow" / "__init__.py").touch()
    (line,) = alone("versions", tmp_path, tmp_path)
    assert line.startswith(f"wrong    import mlflow on this machine: found {tmp_path}/mlflow")
    assert "rename that folder" in line


def test_a_package_that_is_too_old_is_reported_with_what_is_asked_for(tmp_path: Path) -> None:
    plant_version(tmp_path, "optuna", "3.6.1")
    (line,) = alone("versions", tmp_path, tmp_path)
    assert line.startswith("wrong    optuna here: found 3.6.1, expected >=")
    assert "fix: pip install" in line


def plant_version(folder: Path, package: str, version: str) -> None:
    """A copy of an installed package that says to be of another version."""
    import importlib.metadata

    distribution = importlib.metadata.distribution(package)
    installed = Path(str(distribution.locate_file("")))
    shutil.copytree(installed / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    facts = Path(str(distribution.locate_file(f"{package}-{distribution.version}.dist-info"))) / "METADATA"
    (folder / f"{package}-{version}.dist-info").mkdir()
    text = facts.read_text().replace(f"Version: {distribution.version}", f"Version: {version}", 1)
    (folder / f"{package}-{version}.dist-info" / "METADATA").write_text(text)


# --- storage and disks


def test_storage_is_tried_and_left_as_it_was(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    storage = tmp_path / "a" / "b"
    assert levels(found("storage", context(storage=str(storage)))) == {"fine"}
    assert not (tmp_path / "a").exists()
    storage.mkdir(parents=True)
    assert levels(found("storage", context(storage=str(storage)))) == {"fine"}
    assert list(storage.iterdir()) == []
    assert levels(found("storage", context(storage=storage.as_uri()))) == {"fine"}
    assert list(storage.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/doctor", "file", "nothing://bucket/folder"])
def test_storage_that_cannot_be_written_is_reported(
    context: Callable[..., DiagnosticContext], tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    storage = place if "/" in place else str(tmp_path / place)
    reported = the_one("storage", context(storage=storage))
    assert reported.level == "wrong"
    assert "--storage" in reported.fix


def test_a_bucket_is_tried_and_left_as_it_was(
    context: Callable[..., DiagnosticContext], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    assert levels(found("storage", context(storage=bucket.url("doctor")))) == {"fine"}
    assert bucket.objects("doctor") == {}
    write_token(bucket.url("doctor"), "word", "word")  # as a node that is asked
    reported = exchange_tokens(bucket.url("doctor"), "word")
    assert (reported["read"], reported["wrong"]) == ("word", None)
    assert read_token(bucket.url("doctor"), str(reported["reply"])) == reported["reply"]


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "why"), [("bucket", "no such bucket"), ("port", "cannot be used")])
def test_a_bucket_that_cannot_be_written_is_reported(
    context: Callable[..., DiagnosticContext], bucket: Bucket, monkeypatch: pytest.MonkeyPatch, wrong: str, why: str
) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    url = bucket.url("a", free_port()) if wrong == "port" else bucket.url("a").replace(bucket.NAME, "serches")
    reported = the_one("storage", context(storage=url))
    assert (reported.level, why in reported.found) == ("wrong", True)
    assert not any(secret in f"{reported}" for secret in SECRETS.values())


def test_the_doctor_does_not_repeat_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.doctor.main(["--storage", "s3://me:geheim@bucket/a", "--only", "storage"]) == 2
    text = "".join(capsys.readouterr())
    assert "Take it out" in text
    assert "geheim" not in text


def test_storage_that_is_read_only_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    for folder in mounted(tmp_path, "6m"):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        reported = the_one("storage", context(storage=str(folder)))
        assert "Read-only file system" in reported.found


def test_a_full_disk_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    for folder in mounted(tmp_path, "6m"):
        reported = the_one("disks", context(storage=str(folder)))
        assert reported.what == "storage of this machine"
        assert f"{folder} has 6.29 MB free of 6.29 MB" in reported.found
        assert "delete old searches" in reported.fix


def test_a_disk_that_takes_no_more_files_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    for folder in mounted(tmp_path, "3g,nr_inodes=50"):
        reported = the_one("disks", context(storage=str(folder)))
        assert "more files" in reported.found


def test_disks_with_room_are_fine(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    for folder in mounted(tmp_path, "3g"):
        assert not [line for line in bad("disks", context(storage=str(folder))) if str(folder) in line.found]


# --- data


def test_good_files_are_read_by_the_workload_that_they_are_of(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    file = write(tmp_path / "a.root", "edm4hep", flat_branches("edm4hep", showers()))
    (reported,) = found("data", context(data=(file,)))
    assert reported.line.startswith("fine     data: 1 file, ")
    assert reported.line.endswith("there and read as zdc here")
    carried = ROOT / "trainables" / "pt" / "sample" / "electrons_holdout_6k.root"
    (reported,) = found("data", context(data=(str(carried),)))
    assert reported.line.endswith("read as pt-energy here")


def test_a_file_of_another_workload_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    file = write(tmp_path / "a.root", "mytree", flat_branches("mytree", showers()))
    reported = [
        finding for finding in bad("data", context(data=(file,), workload="pt-dphi")) if finding.level == "wrong"
    ]
    assert "no such tree: expected 'tree'" in reported[0].found


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _overwrite(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)  # some of the events
    file.write_bytes(content)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "reported"),
    [
        (_cut, "truncated"),
        (_overwrite, "cannot be read"),
        (_empty, "not a ROOT file"),
        (Path.unlink, "No such file"),
    ],
)
def test_a_file_that_is_spoiled_is_reported_and_the_others_are_read(
    context: Callable[..., DiagnosticContext], tmp_path: Path, spoil: Callable[[Path], None], reported: str
) -> None:
    files = [write(tmp_path / f"{name}.root", "mytree", flat_branches("mytree", showers())) for name in "ab"]
    spoil(tmp_path / "b.root")
    findings = found("data", context(data=tuple(files)))
    (wrong,) = [finding for finding in findings if finding.level == "wrong"]
    assert "b.root" in wrong.found
    assert reported in wrong.found
    assert any("read as zdc" in finding.line for finding in findings)


def test_a_pattern_without_files_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    assert "no file matches" in the_one("data", context(data=(f"{tmp_path}/*.root",))).found


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Workload]:
    """Two workloads on tables: one that says which files it reads, and one that does not."""
    loader = TableLoader(columns=("energy",))
    silent = replace(make_tiny(), name="silent")
    made = {"silent": silent, "line": replace(silent, name="line", load_data=loader, files=loader.files)}
    for name, workload in made.items():
        monkeypatch.setitem(WORKLOADS, name, workload)
    return made


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("kind", tables.FORMATS)
def test_tables_are_read_by_the_workload_that_reads_such_files(
    context: Callable[..., DiagnosticContext], tmp_path: Path, kind: str
) -> None:
    file = tables.write(tmp_path, kind, tables.table())
    tables.write(tmp_path, kind, tables.table(), "y")
    for workload in ("line", None):
        (reported,) = found("data", context(data=(str(tmp_path),), workload=workload))
        assert reported.line.startswith("fine     data: 2 files, ")
        assert reported.line.endswith("there and read as line here")
    tables.write(tmp_path, kind, {"layer": tables.table()["layer"]})
    (wrong,) = bad("data", context(data=(str(file),), workload="line"))
    assert f"{file}: no " in wrong.found
    assert "'energy'; nearest of 1: 'layer'" in wrong.found
    _cut(file)
    (wrong,) = bad("data", context(data=(str(file),), workload="line"))
    assert "truncated" in wrong.found


@pytest.mark.usefixtures("lines")
def test_what_a_workload_does_not_say_is_not_checked_and_so_reported(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("energy\n1\n")
    (reported,) = found("data", context(data=(f"{tmp_path}/x.csv",), workload="silent"))
    assert reported.line.startswith("fine     data: 1 file, ")
    assert reported.line.endswith("there; content not checked: workload silent names no kind of file")
    file = tables.write(tmp_path, "npz", tables.table())
    _cut(file)
    (wrong,) = bad("data", context(data=(str(file),), workload="silent"))
    assert "truncated" in wrong.found


def test_a_table_is_no_file_of_a_workload_on_trees(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    file = tables.write(tmp_path, "parquet", tables.table())
    for workload in ("zdc", None):
        (wrong,) = bad("data", context(data=(str(file),), workload=workload))
        assert "not a ROOT file: expected it to begin with b'root'" in wrong.found
        assert "a Parquet file" in wrong.found
        assert "--workload" in wrong.fix
    assert "no *.root file in this folder" in the_one("data", context(data=(str(tmp_path),), workload="zdc")).found


# --- upload


@pytest.mark.slow
def test_an_upload_that_is_too_large_names_the_offender(tmp_path: Path) -> None:
    for name in ("search", "spaces", "trainables"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "sample"))
    assert alone("upload", tmp_path, tmp_path)[0].startswith("fine     upload of a Ray job: ")
    (tmp_path / "trainables" / "notes.bin").write_bytes(os.urandom(101 * 2**20))  # it cannot be made smaller
    (line,) = alone("upload", tmp_path, tmp_path)
    assert line.startswith("wrong    upload of a Ray job: ")
    assert "101.0 MiB trainables/notes.bin" in line


# --- databases


@pytest.fixture(scope="module")
def old_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As the last but one of MLflow's migrations left it."""
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    storage = tmp_path_factory.mktemp("old")
    uri = embedded_uri(storage)
    (storage / "mlflow").mkdir()
    config = _get_alembic_config(uri)
    migrations = ScriptDirectory.from_config(config)
    head = migrations.get_revision("head")
    engine = sqlalchemy.create_engine(uri)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, head.down_revision)
    engine.dispose()
    return str(storage)


@pytest.mark.slow
def test_an_old_schema_is_reported_and_fixed_by_the_command(
    context: Callable[..., DiagnosticContext], old_database: str
) -> None:
    reported = the_one("tracking", context(storage=old_database))
    assert reported.level == "wrong"
    assert reported.what.startswith("schema of sqlite:///")
    program, command = reported.fix.split("mlflow", 1)
    assert program == "back it up, then: "
    words = [sys.executable, "-m", "mlflow", *command.split()]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    assert not bad("tracking", context(storage=old_database))


def test_a_schema_of_a_newer_mlflow_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "results" / "mlflow").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "results" / "mlflow" / "mlflow.db")) as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('ffffffffffff')")
        database.commit()
    assert "newer MLflow" in the_one("tracking", context()).found


def test_a_database_that_is_not_there_yet_is_fine_and_is_not_made(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    assert not bad("tracking", context())
    assert not (tmp_path / "results").exists()
    assert "no file" in the_one("tracking", context(server=f"sqlite:///{tmp_path}/none.db")).found
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_reported(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is no database, although it is long enough to be taken for one" * 20)
    assert "not a database" in the_one("tracking", context(server=f"sqlite:///{tmp_path}/x.db")).found


@pytest.mark.slow
def test_postgresql_is_asked_with_the_password_and_reported_without_it(
    context: Callable[..., DiagnosticContext], postgres: Postgres
) -> None:
    uri = postgres.create_database("doctor")
    (fine,) = found("tracking", context(server=uri))
    assert "empty" in fine.found
    assert postgres.password not in fine.line
    reported = the_one("tracking", context(server=uri.replace(postgres.password, "guessed")))
    assert "password authentication failed" in reported.found
    assert "guessed" not in reported.line
    assert "refused" in the_one("tracking", context(server=f"postgresql://me:x@127.0.0.1:{free_port()}/none")).found


def test_other_kinds_of_address_are_refused(context: Callable[..., DiagnosticContext], tmp_path: Path) -> None:
    assert "database" in the_one("tracking", context(server=tmp_path.as_uri())).expected


# --- servers


def test_a_server_that_is_down_is_reported(context: Callable[..., DiagnosticContext]) -> None:
    began = time.monotonic()
    reported = the_one("tracking", context(server=f"http://127.0.0.1:{free_port()}"))
    assert reported.level == "wrong"
    assert "Connection refused" in reported.found
    assert "--tracking-uri" in reported.fix
    assert time.monotonic() - began < 120


def test_a_port_that_something_else_has_taken_is_reported(
    context: Callable[..., DiagnosticContext], tmp_path: Path
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        reported = the_one("tracking", context(server=f"http://127.0.0.1:{other.server_port}"))
        other.shutdown()
    assert reported.level == "wrong"
    assert "is this its address?" in reported.fix


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server with passwords, in which others than the administrator may only read; it listens to everybody."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
        f"admin_password = {PASSWORD}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = ["server", "--host", "0.0.0.0", "--port", "{port}", "--workers", "1", "--app-name", "basic-auth"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", "{folder}/artifacts"]
    command += ["--allowed-hosts", "127.0.0.1:*"]
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 48}
    with running_server(folder, "", command=command, environment=environment) as running:
        yield running


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    def become(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return become


@pytest.mark.slow
def test_a_wrong_password_is_reported_as_such_and_not_printed(
    context: Callable[..., DiagnosticContext],
    guarded: MlflowServer,
    login: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    login("admin", PASSWORD)
    assert not bad("tracking", context(server=guarded.uri))
    login("admin", "guessed-by-somebody")
    reported = the_one("tracking", context(server=guarded.uri))
    assert reported.found == "401, for user admin"
    assert "MLFLOW_TRACKING_PASSWORD" in reported.fix
    assert "guessed" not in reported.line
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    assert the_one("tracking", context(server=guarded.uri)).found == "401, without a name"
    in_address = guarded.uri.replace("://", "://admin:guessed-by-somebody@")
    reported = the_one("tracking", context(server=in_address))
    assert reported.found.startswith("401")
    assert "guessed" not in reported.line
    assert not bad("tracking", context(server=guarded.uri.replace("://", f"://admin:{PASSWORD}@")))


@pytest.mark.slow
def test_who_may_only_read_is_reported(
    context: Callable[..., DiagnosticContext], guarded: MlflowServer, login: Callable[[str, str], None]
) -> None:
    login("admin", PASSWORD)
    MlflowClient(guarded.uri).create_experiment("zdc", tags={"mlflow.experimentKind": "custom_model_development"})
    account = {"username": "marie", "password": "the-password-of-marie"}
    users = f"{guarded.uri}/api/2.0/mlflow/users/create"
    assert requests.post(users, json=account, auth=("admin", PASSWORD), timeout=60).ok
    assert not bad("tracking", context(server=guarded.uri))
    login("marie", "the-password-of-marie")
    reported = the_one("tracking", context(server=guarded.uri))
    assert reported.found == "403: writing to experiment zdc is not allowed"
    tags = MlflowClient(guarded.uri).get_experiment_by_name("zdc").tags
    assert tags == {"mlflow.experimentKind": "custom_model_development"}


@pytest.mark.slow
def test_a_name_that_the_server_does_not_answer_to_is_reported(
    context: Callable[..., DiagnosticContext], guarded: MlflowServer, login: Callable[[str, str], None]
) -> None:
    login("admin", PASSWORD)
    reported = the_one("tracking", context(server=guarded.uri.replace("127.0.0.1", "localhost")))
    assert reported.found == "403, Invalid Host header"
    assert "MLFLOW_ALLOWED_HOSTS" in reported.fix


@pytest.mark.slow
def test_a_server_that_listens_to_everybody_is_reported(
    context: Callable[..., DiagnosticContext], guarded: MlflowServer
) -> None:
    reported = [finding for finding in bad("ports", context()) if finding.what == "MLflow on this machine"]
    assert len(reported) == 1
    assert f"0.0.0.0:{guarded.port}" in reported[0].found


# --- a cluster that is not there


def test_an_address_where_nobody_listens_is_reported(context: Callable[..., DiagnosticContext]) -> None:
    reported = the_one("cluster", context(address=f"127.0.0.1:{free_port()}"))
    assert reported.level == "wrong"
    assert "no answer" in reported.found
    reported = the_one("cluster", context(address=f"http://127.0.0.1:{free_port()}"))
    assert "Connection refused" in reported.found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_gpu_that_is_asked_for_and_is_nowhere_is_reported(context: Callable[..., DiagnosticContext]) -> None:
    assert not bad("cluster", context())
    reported = the_one("cluster", context(gpus_per_trial=1))
    assert reported.what == "room for a trial"
    assert "Lower --cpus-per-trial or --gpus-per-trial" in reported.fix


# --- nodes


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_node_that_stays_silent_is_reported_with_the_reason() -> None:
    """One that answers late, one whose answer is an error, one that dies over the question."""
    from search.diagnostics.nodes import Cluster

    def sleep(seconds: float) -> None:
        time.sleep(seconds)

    def number(text: str) -> int:
        return int(text)

    def die() -> None:
        os._exit(3)

    cluster = Cluster.connected()
    (name,) = (node.name for node in cluster.nodes)
    assert cluster.run(number, "3", limit_s=60).values == {name: 3}
    began = time.monotonic()
    late = cluster.run(sleep, 60.0, limit_s=1)
    assert time.monotonic() - began < 30
    assert late.errors == {name: "no answer within 1 s"}
    assert cluster.run(number, "x", limit_s=60).errors[name].startswith("ValueError: invalid literal")
    assert "Error" in cluster.run(die, limit_s=60).errors[name]
    (complaint,) = late.error_findings("clock")
    assert complaint.line.startswith(f"wrong    clock of {name}: found no answer within 1 s")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_cluster_that_is_busy_is_reported_and_not_waited_for(context: Callable[..., DiagnosticContext]) -> None:
    import ray

    def sleep(started: str) -> None:
        Path(started).touch()
        time.sleep(600.0)

    busy = context(time_limit_s=60.0)
    started = Path(busy.storage).with_name("started")
    hold = ray.remote(num_cpus=2)(sleep).remote(str(started))
    assert not bad("cluster", busy)
    wait_until(started.exists, "a task that takes all CPUs")
    reported = the_one("trial", busy)
    ray.cancel(hold, force=True)
    assert reported.level == "warning"
    assert "no free place" in reported.found


@pytest.mark.parametrize(
    ("of_ray", "reported", "level", "words"),
    [
        (2, {"torch": 2, "cuda": "12.8", "driver": 2}, None, ""),
        (0, {"torch": 0, "cuda": "12.8", "driver": 0}, None, ""),
        (1, {"torch": 0, "cuda": "", "driver": 1}, "wrong", "in a build with CUDA"),
        (1, {"torch": 0, "cuda": "12.8", "driver": 1}, "wrong", "too old"),
        (4, {"torch": 2, "cuda": "12.8", "driver": 2}, "wrong", "--num-gpus 2"),
        (1, {"torch": 2, "cuda": "12.8", "driver": 2}, "warning", "--num-gpus 2"),
    ],
)
def test_gpus_of_ray_of_torch_and_of_their_driver_are_compared(
    of_ray: int, reported: dict[str, Any], level: str | None, words: str
) -> None:
    from search.diagnostics.gpus import _problem
    from search.diagnostics.nodes import Node

    node = Node("1", "node1", "node1", {"GPU": float(of_ray)} if of_ray else {})
    finding = _problem(node, {"names": [], "version": "2.13.0", **reported})
    assert (finding and finding.level) == level
    assert words in (finding.fix if finding else "")


@pytest.mark.parametrize(
    ("package", "there", "level"),
    [
        ("torch", "2.13.0+cu128", None),
        ("torch", "2.13.7", "warning"),
        ("torch", "2.12.0", "wrong"),
        ("torch", "none", "wrong"),
        ("ray", "2.60.1", "wrong"),
        ("optuna", "4.0.0", "warning"),
        ("optuna", "none", "warning"),
    ],
)
def test_what_trials_import_must_agree_and_the_rest_is_reported(package: str, there: str, level: str | None) -> None:
    from search.diagnostics.versions import _compare_package

    here = {"torch": "2.13.0+cpu", "ray": "2.60.0", "optuna": "5.0.0"}[package]
    findings = list(_compare_package(package, here, {"node1": there, "node2": here}))
    assert [finding.level for finding in findings] == [level] * (level is not None)
    assert all("node1" in finding.what and "node2" not in finding.what for finding in findings)


def test_a_node_that_falls_silent_is_reported_and_the_other_clocks_are_read(
    context: Callable[..., DiagnosticContext],
) -> None:
    from search.diagnostics.nodes import Cluster, Node, NodeResults

    class Fading(Cluster):
        """Its first node answers only when all are asked."""

        def run(self, probe: Callable[..., Any], *arguments: Any, **more: Any) -> NodeResults:
            asked = [node.name for node in more.get("nodes") or self.nodes]
            silent = {name: "no answer" for name in asked if len(asked) == 1 and name == "a"}
            return NodeResults({name: probe(*arguments) for name in asked if name not in silent}, silent)

    reported = found("clocks", context(cluster=Fading([Node("1", "a", "a", {}), Node("2", "b", "b", {})])))
    assert [finding.line.split(";")[0] for finding in reported[:1]] == [
        "wrong    clock of a: found no answer within 5 s, expected an answer"
    ]
    assert reported[1].found.endswith("on 1 of 2 nodes")


def test_data_are_needed_where_the_search_is_driven_and_elsewhere_it_is_good_to_know() -> None:
    from search.diagnostics.data import _problems_of_nodes
    from search.diagnostics.nodes import Cluster, Node

    nodes = [Node(name, name, name, {}, is_driver=name == "head") for name in ("head", "b", "c")]
    reported = list(
        _problems_of_nodes(Cluster(nodes), dict.fromkeys(("head", "b", "c"), "not there"), "files", "mount it")
    )
    assert [(finding.level, finding.what) for finding in reported] == [
        ("wrong", "data on head"),
        ("warning", "data on b, c"),
    ]
    assert "only the head reads them" in reported[1].fix
    assert "only the head reads them" not in reported[0].fix


def test_shared_memory_that_is_smaller_than_the_object_store_is_reported(
    context: Callable[..., DiagnosticContext],
) -> None:
    from search.diagnostics.disks import _check_object_store
    from search.diagnostics.nodes import Cluster, Node

    one = context(cluster=Cluster([Node("1", "box", "box", {"object_store_memory": 2e9})]))
    (reported,) = _check_object_store(one, {"box": {"shared memory": ("/dev/shm", 64 * 2**20, 60 * 2**20, -1)}})
    assert reported.line.startswith("warning  shared memory of box: found 67.1 MB in all, for an object store of 2 GB")
    assert not list(_check_object_store(one, {"box": {"shared memory": ("/dev/shm", 2 * 2**30, 2**30, -1)}}))
