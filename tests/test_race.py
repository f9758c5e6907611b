"""Laws of the race at the end of a search: a lucky seed does not win it, and it counts as no trial."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from finished import Finished, run_search
from noisy import make_noisy
from optuna.trial import TrialState

from search.storage.search_dir import SearchDir

SAMPLED, EPOCHS = 6, 3
PRESETS: dict[str, dict[str, Any]] = {
    "lucky": {"x": -0.2, "luck": 0.5},
    "good": {"x": 0.28, "y": 0.0},
    "fair": {"x": 0.2, "y": 0.0},
    "poor": {"x": -0.5},
}


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Finished:  # noqa: ARG001 - it runs
    import noisy
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(noisy)
    flags = ("--trials", str(SAMPLED), "--epochs", str(EPOCHS), "--scheduler", "none", "--race", "10")
    return run_search(make_noisy(**PRESETS), tmp_path_factory.mktemp("race"), "raced", *flags)


@pytest.mark.slow
def test_x(raced: Finished) -> None:
    print(raced.text)
    print(json.dumps(raced.board["race"], indent=1), raced.board["rows"][0])
    print({k: v.data.tags for k, v in raced.children.items() if "seed" in k})
    assert 0
