"""What tests share: one real Ray on this machine, and one folder in which searches leave their traces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from bucket import Bucket
    from server import FaultyProxy, MlflowServer, Postgres


# They take minutes: begun first, so that files that run beside each other end at about the same time.
LONGEST = ("test_faults", "test_slurm", "test_cluster", "test_promote", "test_ui", "test_interrupt", "test_chain")


# Examples are made slowly where other tests take the cores; how long a test takes says nothing about its law.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Searches of a failed test in the shared storage are put aside: their names are free where it is repeated."""
    storage = getattr(item, "funcargs", {}).get("storage")
    before = _searches(storage)
    try:
        return (yield)
    except BaseException:
        for folder in _searches(storage) - before:
            folder.rename(folder.with_name(f"{folder.name}-failed-{uuid4().hex[:6]}"))
        raise


def _searches(storage: Path | None) -> set[Path]:
    return set((storage / "searches").glob("*")) if storage else set()


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A real Ray with two CPUs, which every search of the tests joins as it would join a cluster."""
    import ray
    import tiny
    from forked import fork_workers, start_server

    import search.tuning.resources  # noqa: F401 - before Ray starts: it settles what Ray may send out

    start_server()
    fork_workers()
    ray.cloudpickle.register_pickle_by_value(tiny)  # workers need not find tests/
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all searches of the tests: making the database takes seconds."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def run_tiny(request: pytest.FixtureRequest, storage: Path) -> Callable[..., object]:
    """``run_tiny(name, *flags, presets={...})``: a search of the tiny workload; returns ``finished.Finished``."""
    request.getfixturevalue("ray_here")
    from finished import run_search
    from tiny import make_tiny

    def run(name: str, *flags: str, presets: dict[str, dict[str, object]] | None = None) -> object:
        return run_search(make_tiny(**(presets or {})), storage, name, *flags)

    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a trial of one CPU: more threads than cores are many times slower (pitfall 32)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started when the first test asks for it; skips where it is not installed."""
    from server import running_postgres

    with running_postgres() as running:
        yield running


@pytest.fixture(scope="session")
def mlflow_server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real server on it, for all tests: one that stops or kills it starts it again."""
    from server import running_server

    with running_server(tmp_path_factory.mktemp("server"), postgres.create_database("shared")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real server on a database of SQLite, which needs nothing installed: one for the tests of a file."""
    from server import running_server

    folder = tmp_path_factory.mktemp("mlflow")
    with running_server(folder, f"sqlite:///{folder}/mlflow.db") as running:
        yield running


@pytest.fixture
def proxy(mlflow_server: MlflowServer) -> Iterator[FaultyProxy]:
    """Between a test and that server, well-behaved at first."""
    from server import FaultyProxy

    if not mlflow_server.running:
        mlflow_server.start()
    with FaultyProxy(mlflow_server.uri) as between:
        yield between


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket behind a real S3 API; whoever uses it needs ``bucket.USER`` in the environment."""
    from bucket import running_bucket

    with running_bucket(tmp_path_factory.mktemp("s3")) as running:
        yield running
