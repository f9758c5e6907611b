"""What is sent to a Ray cluster, and what is refused before: size, data, results, tokens; without any cluster."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from proxy import free_port
from ray.job_submission import JobStatus

from search.cluster import code_archive
from search.cluster.code_archive import CodeArchive, locked_requirements, pack
from search.cluster.ray_jobs import JobServer, exit_code, read_token, runtime_environment
from search.config.provenance import git_commit
from search.errors import ClusterError, UsageError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without Ray's token, and no variables of Ray's."""
    for name in ("AUTH_MODE", "AUTH_TOKEN", "AUTH_TOKEN_PATH", "ADDRESS", "API_SERVER_ADDRESS"):
        monkeypatch.delenv(f"RAY_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# --- the working directory


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> CodeArchive:
    return pack(tmp_path_factory.mktemp("packed") / "code.zip")


def test_the_code_and_the_carried_samples_are_sent_and_nothing_else(packed: CodeArchive) -> None:
    with zipfile.ZipFile(packed.path) as archive:
        names = set(archive.namelist())
    assert {"search/run.py", "spaces/zdc.py", "trainables/zdc/model.py", "search/cluster/search.sbatch.j2"} <= names
    assert any(name.startswith("trainables/zdc/sample/") and name.endswith(".root") for name in names)
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"search", "spaces", "trainables"}
    assert not any("__pycache__" in name or "/." in name for name in names)
    assert packed.bytes < 20 * 2**20


def test_what_was_sent_runs_and_knows_its_version(packed: CodeArchive, tmp_path: Path) -> None:
    """Where the project itself is not installed: its code and its version come out of the working directory."""
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path)
    script = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
from importlib.metadata import distributions
import search, search.cluster.code_archive
print(search.cluster.code_archive.project_root())
print([found.version for found in distributions(name="hep-search", path=["."])][0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(tmp_path.resolve()), importlib.metadata.version("hep-search")]


def test_what_was_sent_knows_its_commit(packed: CodeArchive, tmp_path: Path) -> None:
    """There is no git where it runs."""
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path)
    ask = [sys.executable, "-c", "from search.config.provenance import git_commit; print(git_commit())"]

    def commit(variables: dict[str, str]) -> str:
        environment = (
            os.environ | {"PYTHONPATH": str(tmp_path), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)} | variables
        )
        done = subprocess.run(
            ask, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    assert commit(runtime_environment(packed, [])["env_vars"]) == git_commit()
    assert commit({"SEARCH_GIT_COMMIT": "0123-dirty"}) == "0123-dirty"
    assert commit({"SEARCH_GIT_COMMIT": ""}) == f"unknown (version {version('hep-search')} without a checkout)"


def test_the_same_code_makes_the_same_archive(packed: CodeArchive, tmp_path: Path) -> None:
    """So that Ray does not send it again."""
    assert pack(tmp_path / "again.zip").path.read_bytes() == packed.path.read_bytes()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with data, results and environments in it."""
    root = tmp_path / "project"
    for name in (
        "search/__init__.py", "spaces/zdc.py", "trainables/zdc/model.py", "trainables/zdc/sample/photons.root",
        "trainables/zdc/run17.root", "trainables/weights.pt", "trainables/results/searches/a/search.json",
        "trainables/.git/config", "search/__pycache__/run.pyc", "spaces/venv/pyvenv.cfg", "spaces/venv/lib/big.py",
        ".venv/lib/x.py", "results/x.json", "data/zdc.root", "notes/plan.txt", "notes/.hidden",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(code_archive.search, "__file__", str(root / "search" / "__init__.py"))
    return root


def names(packed: CodeArchive) -> set[str]:
    with zipfile.ZipFile(packed.path) as archive:
        return {name for name in archive.namelist() if "dist-info" not in name}


@pytest.mark.usefixtures("tree")
def test_data_results_and_environments_stay_here(tmp_path: Path) -> None:
    assert names(pack(tmp_path / "code.zip")) == {
        "search/__init__.py",
        "spaces/zdc.py",
        "trainables/zdc/model.py",
        "trainables/zdc/sample/photons.root",
    }


def test_more_can_be_sent_and_less(tree: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "code.zip", include=[tree / "notes"], exclude=["model.py", "spaces/*"])
    assert names(archive) == {"search/__init__.py", "trainables/zdc/sample/photons.root", "notes/plan.txt"}
    with pytest.raises(UsageError, match="no such file"):
        pack(tmp_path / "code.zip", include=[tree / "nothing"])


def test_what_the_user_names_is_sent_with_its_data(tree: Path, tmp_path: Path) -> None:
    mine = ("weights.pt", "a.root", "results/b.json", "build/c.py", "dist/d.npz", "x.egg-info/e")
    others = (".git/config", ".env", "__pycache__/m.pyc", ".mypy_cache/x", "env/pyvenv.cfg", "env/lib/y.py")
    for name in (*mine, *others):
        (tree / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "notes" / name).write_text(name)
    archive = pack(tmp_path / "code.zip", include=[tree / "notes"], exclude=["search/*", "spaces/*", "trainables/*"])
    assert names(archive) == {"notes/plan.txt", *(f"notes/{name}" for name in mine)}


def test_a_link_to_nothing_is_reported_and_can_be_left_out(tree: Path, tmp_path: Path) -> None:
    (tree / "notes" / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"link: cannot be read: No such file.*--exclude 'notes/link'"):
        pack(tmp_path / "code.zip", include=[tree / "notes"])
    assert "notes/link" not in names(pack(tmp_path / "code.zip", include=[tree / "notes"], exclude=["notes/link"]))


def test_too_large_a_working_directory_is_refused_and_the_largest_files_are_named(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    monkeypatch.setattr(code_archive, "LIMIT_BYTES", 2 * 2**20)
    dice = random.Random(1)
    for name, mebibytes in (("middle.csv", 1), ("largest.csv", 2), ("small.csv", 0)):
        (tree / "trainables" / name).write_bytes(dice.randbytes(mebibytes * 2**20))
    with pytest.raises(UsageError) as refused:
        pack(tmp_path / "code.zip")
    message = str(refused.value).splitlines()
    assert "the 2 MiB that Ray takes" in message[0]
    assert message[1].split() == ["2.0", "MiB", "trainables/largest.csv"]
    assert message[2].split() == ["1.0", "MiB", "trainables/middle.csv"]
    assert pack(tmp_path / "code.zip", exclude=["largest.csv"]).bytes < 2 * 2**20


# --- the runtime environment


def test_the_runtime_environment_pins_the_locked_versions(packed: CodeArchive) -> None:
    pinned = locked_requirements()
    assert all("==" in line for line in pinned)
    assert any(line.startswith("ray==") for line in pinned)
    assert runtime_environment(packed, pinned)["pip"]["packages"] == pinned
    assert "pip" not in runtime_environment(packed, [])


def test_no_secret_of_this_environment_is_sent(packed: CodeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who sees the dashboard can read what is in it."""
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "hunter2")
    assert "hunter2" not in str(runtime_environment(packed, []))


# --- the token


def test_the_token_comes_from_its_usual_places_in_rays_order(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token() is None
    (elsewhere / ".ray").mkdir()
    (elsewhere / ".ray" / "auth_token").write_text("of-the-home\n")
    assert read_token() == "of-the-home"
    (elsewhere / "named").write_text("of-a-file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(elsewhere / "named"))
    assert read_token() == "of-a-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-environment")
    assert read_token() == "of-the-environment"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert read_token() is None


def test_a_token_file_that_is_named_and_not_there_is_reported(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(elsewhere / "nowhere"))
    with pytest.raises(ClusterError, match=r"RAY_AUTH_TOKEN_PATH: .*nowhere cannot be read"):
        read_token()


# --- the server


@pytest.mark.usefixtures("elsewhere")
def test_a_cluster_that_does_not_answer_is_reported_at_once() -> None:
    with pytest.raises(ClusterError, match="Is the cluster up"):
        JobServer(f"http://127.0.0.1:{free_port()}")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:6379", "ray://head:10001", "https://me:hunter2@head:8265", "http://host:99999", "http://h:82x65",
        "http://[::1", "ftp://me:hunter2@head", "http://me:2/hunter2@head", "http://me:x/hunter2@head",
    ],
)  # fmt: skip
def test_an_address_that_is_no_dashboard_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as refused:
        JobServer(address)
    assert "hunter2" not in str(refused.value)


@pytest.mark.usefixtures("elsewhere")
def test_a_name_that_no_host_can_have_is_reported() -> None:
    with pytest.raises(ClusterError, match="The job server at"):
        JobServer("http://head..example.org:8265")


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, 130, 130),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_the_exit_code_is_that_of_the_search(status: JobStatus, driver: int | None, code: int) -> None:
    assert exit_code(SimpleNamespace(status=status, driver_exit_code=driver)) == code
