"""What mlflow/ promises a group: a server that starts as written, keeps strangers out and survives in a backup."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import requests
import yaml
from mlflow.exceptions import MlflowException
from server import MlflowServer, Postgres, running_server

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "mlflow"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\}")
SECRETS = {"MLFLOW_DB_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"}
ADMIN_PASSWORD = "of-the-admin-of-the-tests"
USERS = "/api/2.0/mlflow/users"


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """As ``docker compose`` does it."""

    def value(match: re.Match[str]) -> str:
        name, how, rest = match.group("name", "how", "rest")
        if environment.get(name):
            return environment[name]
        if how == "?":
            raise ValueError(f"required variable {name} {rest}")
        return rest or ""

    return VARIABLE.sub(value, text)


def compose(environment: Mapping[str, str]) -> Any:
    return yaml.safe_load(interpolate((FOLDER / "compose.yaml").read_text(), environment))


def env_example() -> dict[str, str]:
    lines = (FOLDER / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def services() -> Any:
    return compose(dict.fromkeys(SECRETS, "given"))["services"]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def test_the_folder_does_not_hide_the_package() -> None:
    assert not [path for path in FOLDER.rglob("*") if path.suffix in (".py", ".pyc", ".pyi")]
    assert "site-packages" in str(mlflow.__file__)


def test_nothing_starts_without_passwords() -> None:
    """Not with the example as it is, nor with any one of them missing."""
    assert {name for name, value in env_example().items() if not value} == SECRETS
    for missing in SECRETS:
        with pytest.raises(ValueError, match=f"{missing} is missing in mlflow/.env"):
            compose(env_example() | dict.fromkeys(SECRETS - {missing}, "given"))


def test_every_variable_is_explained_and_has_the_same_default_in_both_files() -> None:
    used = {match["name"]: match["rest"] for match in VARIABLE.finditer((FOLDER / "compose.yaml").read_text())}
    explained = env_example()
    assert set(used) == set(explained)
    assert {name: used[name] for name in used if name not in SECRETS} == {
        name: value for name, value in explained.items() if name not in SECRETS
    }


def test_no_file_holds_a_password() -> None:
    for path in FOLDER.iterdir():
        if path.name == ".env":
            continue
        text = path.read_text()
        assert not re.search(r"://\w+:(?!PASSWORD)[^@/\s]+@", text), path
        assert not re.search(r"(?im)^\s*(\w*password|\w*secret_key)\s*[=:][ \t]*[^\s$]", text), path
    settings = configparser.ConfigParser()
    settings.read(FOLDER / "basic_auth.ini")
    assert "admin_password" not in settings["mlflow"]


def test_git_ignores_what_belongs_to_one_site() -> None:
    for name in (".env", "backup/database.dump"):
        done = subprocess.run(["git", "check-ignore", "--quiet", f"mlflow/{name}"], cwd=ROOT, check=False)
        assert done.returncode == 0, name


def test_services_are_pinned_limited_watched_and_restarted(services: Any) -> None:
    declared = compose(dict.fromkeys(SECRETS, "given"))["volumes"]
    for name, service in services.items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["mem_limit"], name
        named = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")]
        assert named, name
        assert set(named) <= set(declared), name
    assert services["server"]["depends_on"]["database"]["condition"] == "service_healthy"


def test_only_this_machine_reaches_the_server_and_nobody_the_database(services: Any) -> None:
    assert services["server"]["ports"] == ["127.0.0.1:5000:5000"]
    assert "ports" not in services["database"]
    networks = compose(dict.fromkeys(SECRETS, "given"))["networks"]
    assert services["database"]["networks"] == ["inside"]
    assert networks["inside"]["internal"] is True


def test_versions_are_those_that_are_tested(services: Any) -> None:
    assert services["server"]["image"].rsplit(":")[-1] == locked()["mlflow"] == version("mlflow")
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert (FOLDER / services["server"]["build"]["context"] / "requirements.lock").resolve().exists()
    assert services["server"]["build"]["dockerfile"] == "mlflow/Dockerfile"
    assert "COPY requirements.lock" in dockerfile
    assert "--constraint /etc/mlflow/requirements.lock" in dockerfile
    assert "!requirements.lock" in (FOLDER / "Dockerfile.dockerignore").read_text()
    for package in ("psycopg", "psycopg-binary", "flask-wtf"):  # without which the constraint says nothing
        assert locked()[package] == version(package)


def test_the_image_holds_what_the_extra_names() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.split(r"[<>=]", requirement)[0] for requirement in extras["server"]}
    assert named == set(re.findall(r'"([\w\[\]]+)"', (FOLDER / "Dockerfile").read_text().split("CMD")[0]))


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # where mlflow looks at its own commands
def test_the_real_command_line_accepts_the_command(services: Any) -> None:
    from mlflow.cli import cli

    program, name, *arguments = services["server"]["command"]
    assert program == "mlflow"
    context = cli.commands[name].make_context(name, list(arguments))
    assert context.params["app_name"] == "basic-auth"
    assert context.params["serve_artifacts"] is True
    assert context.params["artifacts_destination"] == "/artifacts"
    assert context.params["workers"] == "2"


@pytest.mark.parametrize("name", ["make-env.sh", "backup.sh", "restore.sh"])
def test_scripts_are_plain_shell(name: str) -> None:
    assert (FOLDER / name).read_text().startswith("#!/bin/sh\n# ")
    subprocess.run(["sh", "-n", FOLDER / name], check=True)


def test_make_env_fills_each_password_once(tmp_path: Path) -> None:
    for name in ("make-env.sh", "env.example"):
        shutil.copy(FOLDER / name, tmp_path)
    make = ["sh", str(tmp_path / "make-env.sh")]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    made = tmp_path / ".env"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    values = dict(line.split("=", 1) for line in made.read_text().splitlines() if re.match(r"\w+=", line))
    assert set(values) == set(env_example())
    assert all(re.fullmatch("[0-9a-f]{48}", values[name]) for name in SECRETS)
    assert len({values[name] for name in SECRETS}) == len(SECRETS)
    compose(values)
    before = made.read_bytes()
    assert subprocess.run(make, check=False, capture_output=True).returncode != 0
    assert made.read_bytes() == before


@pytest.fixture(scope="module")
def group_server(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MlflowServer, Postgres]]:
    """The command and the environment of compose.yaml, on a PostgreSQL beside it instead of in a container."""
    folder = tmp_path_factory.mktemp("group")
    postgres = Postgres()
    try:
        postgres.start()
        postgres.create_database("mlflow")
        server = dict.fromkeys(SECRETS, "k" * 48)
        server |= {"MLFLOW_DB_PASSWORD": postgres.password, "MLFLOW_ADMIN_PASSWORD": ADMIN_PASSWORD}
        environment = compose(server)["services"]["server"]["environment"]
        settings = (FOLDER / "basic_auth.ini").read_text().replace("@database/", f"@{postgres.address}/")
        (folder / "basic_auth.ini").write_text(settings)
        environment["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "basic_auth.ini")
        with running_server(
            folder, "", command=here(services["server"]["command"][1:], postgres), environment=environment
        ) as running:
            yield running, postgres
    finally:
        postgres.remove()


def here(command: list[str], postgres: Postgres) -> list[str]:
    """Other addresses and folders, for want of containers; else the same words."""
    places = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": "--port={port}",
        "--artifacts-destination=/artifacts": "--artifacts-destination={folder}/artifacts",
    }
    assert set(places) <= set(command)
    return [places.get(word, word).replace("@database/", f"@{postgres.address}/") for word in command]


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``as_user(name, password)``: what the README tells users to set."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def become(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return become


@pytest.mark.slow
def test_who_may_do_what(group_server: tuple[MlflowServer, Postgres], as_user: Any) -> None:
    server, postgres = group_server
    client = server.client()
    assert requests.get(f"{server.uri}/health", timeout=60).text == "OK"  # what the health check asks
    for name, password in (("", ""), ("admin", "guessed"), ("nobody", ADMIN_PASSWORD)):
        as_user(name, password)
        with pytest.raises(MlflowException, match="401"):
            client.search_experiments()

    as_user("admin", ADMIN_PASSWORD)
    experiment = client.create_experiment("zdc")
    run_id = client.create_run(experiment).info.run_id
    for name in ("marie", "lise"):
        account = {"username": name, "password": f"the-password-of-{name}"}
        created = requests.post(f"{server.uri}{USERS}/create", json=account, auth=("admin", ADMIN_PASSWORD), timeout=60)
        assert created.ok, created.text

    as_user("marie", "the-password-of-marie")
    own = client.create_run(experiment).info.run_id  # in an experiment that somebody else began
    client.log_metric(own, "loss", 0.5)
    client.log_text(own, "a figure", "figure.txt")
    assert {run.info.run_id for run in client.search_runs([experiment])} == {run_id, own}
    for forbidden in (lambda: client.delete_run(run_id), lambda: client.delete_experiment(experiment)):
        with pytest.raises(MlflowException, match="403"):
            forbidden()
    account = {"username": "stranger", "password": "let-me-in-please"}
    own_login = ("marie", "the-password-of-marie")
    assert requests.post(f"{server.uri}{USERS}/create", json=account, auth=own_login, timeout=60).status_code == 403
    assert (server.artifacts / experiment / own / "artifacts" / "figure.txt").read_text() == "a figure"

    change = account | {"username": "marie", "current_password": own_login[1]}
    assert requests.patch(f"{server.uri}{USERS}/update-password", json=change, auth=own_login, timeout=60).ok
    as_user("marie", account["password"])
    assert client.get_run(own)
    own_login = ("marie", account["password"])

    stranger = requests.get(server.uri, headers={"Host": "elsewhere.example.org"}, auth=own_login, timeout=60)
    assert stranger.status_code == 403  # MLFLOW_ALLOWED_HOSTS
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any(server.command[1] in command for command in commands)
    assert not [command for command in commands if postgres.password in command or ADMIN_PASSWORD in command]


DOCKER = """#!/bin/sh
# docker compose, for want of containers: runs the command here, on the folder that stands for the volume.
shift # compose
case "$1" in
    stop | up) exit 0 ;;
    exec) shift 3 ;; # exec -T SERVICE
    run) shift 5 ;; # run --rm -T --no-deps SERVICE
esac
for word; do
    shift
    [ "$word" = --directory=/artifacts ] && word="--directory=$TEST_ARTIFACTS"
    set -- "$@" "$word"
done
exec "$@"
"""


@pytest.mark.slow
def test_a_backup_brings_back_what_was_lost(
    group_server: tuple[MlflowServer, Postgres], as_user: Any, tmp_path: Path
) -> None:
    """Runs, artifacts and accounts, with the very scripts."""
    server, postgres = group_server
    if not (shutil.which("pg_dump") and shutil.which("pg_restore")):
        pytest.skip("pg_dump and pg_restore are not installed: apt-get install postgresql-client")
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    host, port = postgres.address.split(":")
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TEST_ARTIFACTS": str(server.artifacts),
        "PGHOST": host,
        "PGPORT": port,
        "PGPASSWORD": postgres.password,
        "PGDATABASE": "postgres",
    }

    def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = ["sh", str(FOLDER / name), *map(str, arguments)]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)

    as_user("admin", ADMIN_PASSWORD)
    client = server.client()
    experiment = client.create_experiment("kept")
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "loss", 0.25, step=7)
    client.log_text(run_id, "weights", "model.txt")

    done = script("backup.sh", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"artifacts.tar", "database.dump"}
    assert script("backup.sh", tmp_path / "copy").returncode != 0  # never over another
    (tmp_path / "half").mkdir()
    assert script("restore.sh", tmp_path / "half").returncode == 2

    later = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "loss", 99.0, step=8)
    server.stop()
    shutil.rmtree(server.artifacts)
    server.artifacts.mkdir()
    done = script("restore.sh", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    server.start()
    assert [(row.step, row.value) for row in client.get_metric_history(run_id, "loss")] == [(7, 0.25)]
    assert Path(client.download_artifacts(run_id, "model.txt", str(tmp_path))).read_text() == "weights"
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(later)


@pytest.mark.slow
def test_upgrade_commands_of_the_readme_are_those_of_the_real_program(
    group_server: tuple[MlflowServer, Postgres],
) -> None:
    """On a database that is up to date they do nothing, and say so by their exit code."""
    _, postgres = group_server
    uri = f"postgresql://mlflow@{postgres.address}/mlflow"
    text = (FOLDER / "README.md").read_text()
    commands = re.findall(r"docker compose run --rm server (.*upgrade.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("postgresql://mlflow@database/mlflow", uri).split()
        start = [sys.executable, "-m", "mlflow"] if words[0] == "mlflow" else [sys.executable]
        done = subprocess.run(
            [*start, *words[1:]],
            env=os.environ | {"PGPASSWORD": postgres.password},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
