"""A workload that gives only what is required can do what every workload can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import six_fields
from finished import Finished, run_search

import search.check

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = np.random.default_rng(3)
    x_N4 = random.normal(size=(600, 4)).astype("f4")
    file = tmp_path_factory.mktemp("data") / "events.npz"
    np.savez(file, x=x_N4, y=(x_N4[:, 0] + 0.5 * random.normal(size=600) > 0).astype("f4"))
    return str(file)


Search = Callable[..., Finished]


@pytest.fixture(scope="module")
def six(request: pytest.FixtureRequest, storage: Path, data: str) -> Search:
    request.getfixturevalue("ray_here")
    import ray

    ray.cloudpickle.register_pickle_by_value(six_fields)  # workers need not find tests/

    def run(name: str, *flags: str) -> Finished:
        done = run_search(six_fields.WORKLOAD, storage, name, "--data", data, "--trials", "4", "--epochs", "4", *flags)
        assert done.code == 0, done.text
        return done

    return run


def test_it_keeps_the_contract(data: str) -> None:
    assert search.check.main([f"{six_fields.__file__}:WORKLOAD", "--data", data]) == 0


def test_weak_trials_stop_early_and_a_trial_is_measured(six: Search) -> None:
    done = six("six-asha", "--scheduler", "asha", "--gpus-per-trial", "auto")
    assert "autosize" in done.text or "trials at a time" in done.text
    assert done.board["rows"][0]["metrics"]["accuracy"] > 0.5


def test_a_population_is_trained(six: Search) -> None:
    done = six("six-pbt", "--scheduler", "pbt")
    assert {row["outcome"] for row in done.board["rows"]} == {"complete"}


def test_several_objectives_give_a_front(six: Search) -> None:
    done = six("six-two", "--objective", "accuracy,brier")
    assert any(row["front"] for row in done.board["rows"])


def test_constraints_of_both_kinds_go_first(six: Search) -> None:
    done = six("six-bound", "--constraint", "accuracy>=0.5", "brier<=0.2", "--objective", "brier")
    assert "accuracy" in done.text
    assert done.board["limits"] == {"accuracy>=": 0.5, "brier": 0.2}
