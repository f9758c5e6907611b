"""Laws of the studies: intervals hold what they promise, packed events come back from files, answers are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finished import registered
from noisy import make_noisy

from benchmarks.studies.statistics import difference, mean_of
from benchmarks.studies.steps import Study, Trained, markdown
from benchmarks.studies.zdc import ZdcStudy, write_sample
from trainables.zdc.data import ZDCDataSettings, load_data, load_holdout


def test_an_interval_of_95_percent_holds_the_truth_that_often() -> None:
    random = np.random.default_rng(1)
    intervals = [mean_of(random.normal(2.0, 1.0, 3)) for _ in range(2000)]
    held = np.mean([one.low <= 2.0 <= one.high for one in intervals if one.low is not None and one.high is not None])
    assert held == pytest.approx(0.95, abs=0.02)


def test_what_seeds_have_in_common_is_not_in_a_difference() -> None:
    found = difference([1.0, 5.0, 9.0], [0.0, 4.1, 7.9])
    assert found.mean == pytest.approx(1.0)
    assert found.excludes_zero
    assert not difference([1.0, 5.0], [2.0, 4.0]).excludes_zero


def test_one_seed_has_no_interval() -> None:
    found = difference([2.0], [1.0])
    assert (found.low, found.high, found.excludes_zero) == (None, None, False)
    assert "no interval" in str(found)


def test_packed_events_come_back_from_the_files(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    energy = random.uniform(0.5, 19.5, 900)
    momentum = energy[:, None] * np.array([-0.024997, 0.0, 0.999688])
    packed = np.packbits(random.random((900, 400)) < 0.05, axis=1)
    np.savez(
        tmp_path / "packed.npz",
        e_px_py_pz_gev=np.column_stack((energy, momentum)).astype(np.float32),
        mask_packed=packed,
    )
    asked = ZdcStudy(tmp_path / "packed.npz", out=tmp_path, sizes=(200, 400), validation=300, holdout=200)
    files = write_sample(asked)
    assert write_sample(asked) == files
    settings = ZDCDataSettings(
        data=(str(files["train-400"]),), validation=(str(files["validation"]),), holdout=(str(files["holdout"]),)
    )
    order = np.random.default_rng(0).permutation(900)
    data = load_data(settings, tmp_path / "cache")
    for events, chosen in ((data.train, order[500:]), (data.validation, order[200:500])):
        assert sorted(map(bytes, events.mask_packed_N50)) == sorted(map(bytes, packed[chosen]))
        assert np.sort(events.condition_N6[:, 0]) == pytest.approx(np.sort(energy[chosen]), rel=1e-5)
    holdout = load_holdout(settings, tmp_path / "cache")
    assert sorted(map(bytes, holdout.mask_packed_N50)) == sorted(map(bytes, packed[order[:200]]))


def test_a_question_is_answered_in_one_sentence_with_its_interval(tmp_path: Path) -> None:
    one, other = (
        Trained("zdc", label, label, [{"mse": value + seed} for seed in range(3)], {})
        for label, value in (("gan", 2.0), ("regression", 1.0))
    )
    study = Study("zdc", tmp_path, 3, 2, {})
    found = study.compare("Does it help?", "mse", one, other)
    assert (found.low, found.mean, found.high) == (1.0, 1.0, 1.0)
    study.tabulate("Presets", [one, other], ("mse",))
    study.write(tmp_path, {"seeds": 3})
    text = (tmp_path / "zdc.md").read_text()
    assert "**Does it help?** mse of gan is higher: gan - regression = 1 [1, 1], 95 %." in text
    assert "| regression | 3 | 2 [-0.484, 4.48] |" in text
    assert text == markdown({"facts": {}, "answers": {}, "tables": {}} | _stored(tmp_path / "zdc.json"))


def test_a_seed_that_diverged_is_left_out_of_both_points_and_told(tmp_path: Path) -> None:
    one = Trained("zdc", "gan", "gan", [{"mse": 2.0}, {"mse": 4.5}], {}, seeds=(0, 2))
    other = Trained("zdc", "regression", "regression", [{"mse": value} for value in (1.0, 50.0, 3.0)], {})
    study = Study("zdc", tmp_path, 3, 2, {})
    found = study.compare("Does it help?", "mse", one, other)
    assert (found.mean, found.seeds) == (1.25, 2)
    assert study.answers["Does it help?"].endswith("; 1 of 3 trainings of gan did not end")


@pytest.mark.slow
def test_points_are_trained_with_the_same_seeds_and_a_repetition_trains_nothing(
    tmp_path: Path,
    ray_here: None,  # noqa: ARG001 - it runs
) -> None:
    import noisy
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(noisy)
    workload = make_noisy()
    marks = []
    with registered(workload):
        for _ in range(2):
            study = Study("study", tmp_path, 3, 2, {})
            points = {"good": {"x": 0.3, "y": 0.0, "noise": 5.0}, "bad": {"x": -0.5, "y": 0.0, "noise": 5.0}}
            good, bad = (study.train(workload.name, label, point) for label, point in points.items())
            marks.append([(tmp_path / "searches" / one.search / "optuna.journal").read_bytes() for one in (good, bad)])
    assert marks[0] == marks[1]
    assert np.std(good.values("loss")) > 0.05
    found = study.compare("Is it better?", "loss", good, bad)
    assert found.high is not None
    assert found.low is not None
    assert found.excludes_zero
    assert found.high - found.low == pytest.approx(0.0, abs=1e-6)  # the noise of a seed is the same at both points


def _stored(path: Path) -> dict[str, object]:
    import json

    content: dict[str, object] = json.loads(path.read_text())
    return content
