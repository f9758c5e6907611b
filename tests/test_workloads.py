"""The carried workloads keep the contract of all workloads, check by check, and some laws of their own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from search.diagnostics.contract.law import Check
from search.diagnostics.contract.runner import CHECKS, examine
from search.diagnostics.contract.subject import Subject
from search.workload import Workload
from search.workloads import CHAINS, WORKLOADS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=WORKLOADS)
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@pytest.fixture(scope="module")
def subject_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """Subjects keep what several checks need: data, the point to begin at, the weights of whole runs."""
    made: dict[str, Subject] = {}

    def subject_of(name: str) -> Subject:
        return made.setdefault(name, Subject(WORKLOADS[name], tmp_path_factory.mktemp("subject")))

    return subject_of


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize(
    "check", [pytest.param(one, id=one.name, marks=[pytest.mark.slow] * one.slow) for one in CHECKS]
)
def test_a_carried_workload_keeps_the_law(check: Check, name: str, subject_of: Callable[[str], Subject]) -> None:
    outcome = examine(check, subject_of(name))
    assert outcome.result == "passed", f"{check.law} {outcome.found}\n{outcome.details}"


def test_carried_workloads_report_plain_floats(workload: Workload, subject_of: Callable[[str], Subject]) -> None:
    assert all(type(value) is float for value in subject_of(workload.name).metrics.values())


def test_what_sets_the_cost_of_a_trial_is_reckoned_with(workload: Workload) -> None:
    """What carried workloads fix by default is fixed because of its cost."""
    assert set(workload.optional) <= set(workload.sizing)


def test_carried_workloads_are_compared_with_two_naive_predictors(
    workload: Workload, subject_of: Callable[[str], Subject]
) -> None:
    assert len(workload.baselines(subject_of(workload.name).data)) >= 2


@pytest.mark.slow
def test_the_report_of_a_carried_workload_has_figures_and_tables(
    workload: Workload, subject_of: Callable[[str], Subject]
) -> None:
    report = subject_of(workload.name).report.folder
    assert {".png", ".csv"} <= {path.suffix for path in report.iterdir()}


# ---------------------------------------------------------------- presets


ZDC_TABLE = {
    # DIS:GEN, max GEN LR, max DIS LR, pct_start, noise start, noise end
    "test25": ("1:5", 9e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr4": ("1:1", 9e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr4-ns1": ("1:1", 9e-4, 1e-3, 0.35, 1.0, None),
    "test26-lr6": ("1:1", 1e-3, 1e-3, 0.8, 0.7, 1.0),
    "test26-lr8": ("1:1", 7e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr9": ("1:1", 1e-3, 9e-4, 0.35, 0.7, 1.0),
}


def test_the_zdc_presets_are_those_of_the_report() -> None:
    presets = WORKLOADS["zdc"].presets
    assert set(presets) == {*ZDC_TABLE, "test24", "regression-only"}
    keys = ("dis_gen_ratio", "max_lr_gen", "max_lr_dis", "pct_start", "noise_start", "noise_end")
    for name, values in ZDC_TABLE.items():
        assert tuple(presets[name].get(key) for key in keys) == values, name
        assert presets[name]["gan"] is True
        assert presets[name]["normalise"] is True
        assert presets[name]["smoothing"] > 0
        assert presets[name]["noise_shape"] == ("constant" if name.endswith("ns1") else "linear")
    assert presets["test24"] == {**presets["test26-lr4"], "normalise": False, "smoothing": 0.0}
    regression = presets["regression-only"]
    assert regression["gan"] is False
    assert regression.items() - {("gan", False)} <= presets["test26-lr4"].items()
    assert "max_lr_dis" not in regression  # it would not act


# ---------------------------------------------------------------- data


IDENTITY = {"zdc": "condition_N6", "pt": "truth_N3"}  # package -> array that tells events apart


@pytest.mark.parametrize("package", IDENTITY)
def test_no_holdout_event_reaches_a_trial(package: str, tmp_path: Path) -> None:
    """Of the carried sample, as every search without --data uses it."""
    module, array = import_module(f"trainables.{package}.data"), IDENTITY[package]
    workload = next(one for one in WORKLOADS.values() if one.load_data is module.load_data)
    data, holdout = module.load_data(workload.settings(), tmp_path), module.load_holdout(workload.settings(), tmp_path)
    hidden = {row.tobytes() for row in np.asarray(getattr(holdout, array))}
    assert len(hidden) > 1_000
    for part in (data.train, data.validation):
        assert not hidden & {row.tobytes() for row in np.asarray(getattr(part, array))}
    arrays = [value for value in vars(data).values() if hasattr(value, array)]
    assert arrays == [data.train, data.validation]


def test_what_a_workload_builds_on_is_there_and_comes_before_it_in_a_chain(workload: Workload) -> None:
    assert set(workload.builds_on) <= WORKLOADS.keys()
    assert bool(workload.builds_on) == (workload.join is not None)
    for chain in CHAINS.values():
        for place, name in enumerate(chain.workloads):
            assert set(WORKLOADS[name].builds_on) <= set(chain.workloads[:place])
            assert WORKLOADS[name].settings is WORKLOADS[chain.workloads[0]].settings
