"""The holdout reaches neither a trial nor a finalist: no training gets the impossible values that its events have."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import registered, run_search

import search.promote
from search.workloads import WORKLOADS
from trainables.zdc.data import ZDCDataSettings, load_holdout
from trainables.zdc.simulate import simulate, write_file
from trainables.zdc.train import ZDCTraining

IMPOSSIBLE = 1e6  # times the energy of any other event
SMALL = ("--set", "hidden_dim=4", "batch_size=64", "--epochs", "1", "--trials", "0", "--presets", "regression-only")


class LargestValueTraining(ZDCTraining):
    """Reports the largest number in its data as a metric."""

    def validate(self) -> dict[str, float]:
        return super().validate() | {"largest": max(float(np.abs(array).max()) for array in arrays(self.data))}


def arrays(thing: Any) -> Iterator[np.ndarray[Any, Any]]:
    """All arrays of numbers in an object, however deep."""
    if isinstance(thing, np.ndarray):
        if thing.size:
            yield thing
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from arrays(getattr(thing, field.name))
    elif isinstance(thing, dict | list | tuple):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from arrays(part)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_impossible_values_of_the_holdout_reach_neither_a_trial_nor_a_finalist(tmp_path: Path) -> None:
    import test_holdout  # as Ray sees this module
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(test_holdout)
    shower = simulate(400, np.random.default_rng(2))
    hidden = replace(shower, momentum_gev_N3=shower.momentum_gev_N3 * IMPOSSIBLE)
    write_file(tmp_path / "data.root", "mytree", [simulate(1500, np.random.default_rng(1))])
    write_file(tmp_path / "hidden.root", "mytree", [hidden])
    files = ("--data", str(tmp_path / "data.root"), "--holdout", str(tmp_path / "hidden.root"))
    settings = ZDCDataSettings(data=files[1:2], holdout=files[3:])
    assert max(np.abs(array).max() for array in arrays(load_holdout(settings, tmp_path / "cache"))) > IMPOSSIBLE

    workload = replace(WORKLOADS["zdc"], training=test_holdout.LargestValueTraining)
    found = run_search(workload, tmp_path / "results", "seen", *files, "--bin-width-mev", "5000", *SMALL)
    assert found.code == 0, found.text
    text = io.StringIO()
    flags = ["zdc", "--storage", str(tmp_path / "results"), "--top", "1", "--seeds", "1"]
    with registered(workload), redirect_stdout(text):
        code = search.promote.main(flags)
    assert code == 2, text.getvalue()  # the evaluation refuses these events
    assert "none of its 1 energy bins of 5000 MeV holds 20 holdout events" in text.getvalue()
    (again,) = (tmp_path / "results" / "searches").glob("seen.finalists-*")
    trained = replace(found, name=again.name)
    assert {"regression-only.seed1", "test26-lr4.seed1"} <= trained.rows.keys(), text.getvalue()
    for row in [*found.rows.values(), *trained.rows.values()]:
        if row["number"] is not None:
            assert 0 < row["metrics"]["largest"] < 400  # crystals in a byte of their mask, at most 255
