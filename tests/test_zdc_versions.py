"""Searches of objective version zdc-1 are refused, or kept apart, wherever their values would meet those of zdc-2."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import call
from optuna.trial import create_trial
from specs import spec_of

from search.config.settings import Budget, Method, Site
from search.engine.warm_start import warm_start
from search.errors import UsageError
from search.promotion.source_search import open_search
from search.reporting.html.load import read_search
from search.reporting.html.overlay import group_comparable
from search.storage.location import Storage
from search.storage.names import EVENT_LOG
from search.storage.search_dir import SearchDir
from search.tracking.client import Experiment, client_of
from search.tuning.samplers import make_sampler
from search.tuning.study import open_study
from search.workloads import WORKLOADS
from trainables.zdc.binning import OBJECTIVE_VERSION
from trainables.zdc.data import ZDCData, ZDCDataSettings, load_data

BUDGET = Budget(trials="1", epochs=1)
FLAGS = ("zdc", "--trials", "1", "--epochs", "1", "--tracking-uri", "journal")


class OldData(ZDCData):
    """The same events as they were scored before."""

    @property
    def objective_version(self) -> str:
        return super().objective_version.replace(OBJECTIVE_VERSION, "zdc-1")


def write(storage: Path, name: str, data: ZDCData) -> SearchDir:
    """The directory of a search on the carried sample that was interrupted after one trial."""
    directory, spec = SearchDir(storage, name), spec_of(WORKLOADS["zdc"], budget=BUDGET, site=Site(name=name))
    directory.path.mkdir(parents=True)
    facts = {"run_id": "", "experiment_id": "", "tags": {}}
    directory.describe(spec, data, facts=facts, branches=[], method={"sampler": "tpe", "scheduler": "asha"})
    (directory.path / EVENT_LOG).touch()
    study = open_study(directory.path, name, spec.goal.objectives.values(), make_sampler("random", 0))
    point = spec.space.presets["regression-only"] | {"epochs": 1, "hidden_dim": 8, "batch_size": 128}
    metrics = dict.fromkeys(spec.workload.objectives, 0.0001)
    study.add_trial(create_trial(value=1e-4, user_attrs={"hyperparameters": point, "metrics": metrics}))
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ZDCData:
    return load_data(ZDCDataSettings(), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def old(data: ZDCData, tmp_path: Path) -> SearchDir:
    directory = write(tmp_path, "old", OldData(**{name: getattr(data, name) for name in data.__dataclass_fields__}))
    assert directory.description()["objective version"].startswith("zdc-1 bins=1000")
    return directory


@pytest.mark.parametrize("more", [("--resume",), ("--trials", "+1")])
def test_it_is_neither_resumed_nor_extended(more: tuple[str, ...], old: SearchDir) -> None:
    code, text = call(WORKLOADS["zdc"], *FLAGS, "--storage", str(old.storage), "--name", "old", *more)
    assert code == 2, text
    words = " ".join(text.split())
    assert "objective version of search 'old' was 'zdc-1 bins=1000" in words
    assert "Values of different versions are never compared" in words


def test_it_teaches_no_sampler(old: SearchDir, data: ZDCData) -> None:
    storage = Storage(old.storage.folder)
    write(storage.folder, "same", data)
    spec = spec_of(WORKLOADS["zdc"], budget=BUDGET, method=Method(warm_from=("old", "same")), site=Site(name="today"))
    warm = warm_start(spec, data, storage, None)
    assert [trial.user_attrs["warm_from"] for trial in warm.trials] == ["same"]
    assert "1 of another objective version (zdc-1 bins=1000" in warm.lines[0]


def test_it_shares_no_figure_of_an_overlay(old: SearchDir, data: ZDCData) -> None:
    write(old.storage.folder, "new", data)
    groups = group_comparable([read_search(old.storage, name) for name in ("old", "new")])
    assert [[search.name for search in group.searches] for group in groups] == [["old"], ["new"]]


def test_it_is_not_promoted(old: SearchDir) -> None:
    experiment = Experiment(client_of(None, old.storage.folder), "1")  # nothing is asked of it
    with pytest.raises(UsageError, match=r"The objective version of search 'old' is 'zdc-1 .*here it is 'zdc-2 "):
        open_search(WORKLOADS["zdc"], old, old.storage.folder / "cache", experiment)
