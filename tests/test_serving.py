"""A packaged model answers in physical units, says what it cannot use, and does so in MLflow's hands, anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import packed
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from proxy import free_port

from trainables.base.errors import DataError
from trainables.export.mlflow_loader import (
    CHUNK,
    ExtrapolationWarning,
    Served,
    _load_pyfunc,
    input_example,
    requirements,
    signature_of,
)
from trainables.export.package import PackageError, read_package
from trainables.pt.inference import predict, raw_inputs
from trainables.zdc.events import CONDITIONS
from trainables.zdc.inference import build_mask

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("packages")
    return {workload: packed.pack(workload, parent / workload).folder for workload in packed.WORKLOADS}


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> dict[str, Served]:
    return {workload: _load_pyfunc(str(folder)) for workload, folder in folders.items()}


@pytest.fixture
def zdc(served: dict[str, Served]) -> Served:
    return served["zdc"]


def events_of(model: Served) -> pd.DataFrame:
    """Those that the package was checked on, as users have them: in float64."""
    columns = [column.name for column in model.package.manifest.inputs]
    if model.package.model.workload == "zdc":
        return pd.DataFrame(packed.zdc_data().validation.condition_N6, columns=columns, dtype=np.float64)
    return pd.DataFrame(raw_inputs(tuple(columns), packed.pt_data().validation), columns=columns, dtype=np.float64)


# ---------------------------------------------------------------- predictions


def test_hit_probabilities_are_those_of_the_model(zdc: Served) -> None:
    events = events_of(zdc)
    expected = build_mask(packed.model("zdc"))(torch.tensor(events.to_numpy(np.float32, copy=True))).numpy()
    found = zdc.predict(events)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("workload", ["pt-energy", "pt-dphi", "pt-combined"])
def test_pt_is_that_of_the_model(served: dict[str, Served], workload: str) -> None:
    expected = predict(packed.model(workload), packed.branches(workload), packed.pt_data().validation, -1)
    found = served[workload].predict(events_of(served[workload]))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("workload", packed.WORKLOADS)
def test_columns_are_found_by_name_and_arrays_taken_in_order(served: dict[str, Served], workload: str) -> None:
    model = served[workload]
    events = events_of(model)[:20]
    expected = model.predict(events)
    mixed = events[events.columns[::-1]].assign(comment="what else a table holds")
    np.testing.assert_array_equal(model.predict(mixed), expected)
    np.testing.assert_array_equal(model.predict(events.to_numpy()), expected)
    np.testing.assert_array_equal(model.predict(events.to_numpy(np.float32)), expected)
    np.testing.assert_array_equal(model.predict(events.astype(np.float32)), expected)


def test_many_events_are_predicted_as_a_few_are(served: dict[str, Served]) -> None:
    model = served["pt-dphi"]
    events = events_of(model)
    many = pd.concat([events] * (2 * CHUNK // len(events) + 2), ignore_index=True)
    assert len(many) > 2 * CHUNK
    np.testing.assert_allclose(model.predict(many)[-len(events) :], model.predict(events), rtol=1e-6)


@pytest.mark.parametrize("workload", packed.WORKLOADS)
def test_no_events_give_no_predictions(served: dict[str, Served], workload: str) -> None:
    model = served[workload]
    assert model.predict(events_of(model)[:0]).shape == (0, *model.package.manifest.output.shape)


# ---------------------------------------------------------------- sampled hits


def test_a_seed_gives_the_same_hits_each_time(zdc: Served) -> None:
    events = events_of(zdc)
    one, same, other = (zdc.predict(events, {"sample": True, "seed": seed}) for seed in (7, 7, 8))
    assert one.shape == (len(events), 20, 20)
    assert set(np.unique(one)) == {0.0, 1.0}
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    np.testing.assert_array_equal(
        zdc.predict(events, {"sample": True}), zdc.predict(events, {"sample": True, "seed": 0})
    )
    np.testing.assert_array_equal(zdc.predict(events, {"sample": False, "seed": 7}), zdc.predict(events))


def test_hits_come_as_often_as_the_probability_says(zdc: Served) -> None:
    events = pd.concat([events_of(zdc)[:1]] * 5000, ignore_index=True)
    probability = zdc.predict(events[:1])[0]
    rate = zdc.predict(events, {"sample": True, "seed": 1}).mean(axis=0)
    expected_spread = np.sqrt(probability * (1 - probability) / 5000)
    assert np.abs((rate - probability) / expected_spread).max() < 5


@pytest.mark.parametrize(
    "params", [{"smaple": True}, {"sample": "yes"}, {"sample": True, "seed": -1}, {"sample": True, "seed": 1.5}]
)
def test_parameters_that_make_no_sense_are_refused(zdc: Served, params: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected sample"):
        zdc.predict(events_of(zdc), params)


def test_pt_is_not_sampled(served: dict[str, Served]) -> None:
    with pytest.raises(DataError, match="parameter 'sample': expected none"):
        served["pt-dphi"].predict(events_of(served["pt-dphi"]), {"sample": True})


# ---------------------------------------------------------------- what cannot be used


def with_value(column: str, value: Any) -> Callable[[pd.DataFrame], Any]:
    def change(events: pd.DataFrame) -> pd.DataFrame:
        events = events.astype(object) if isinstance(value, str) else events.copy()
        events.loc[3, column] = value
        return events

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda events: events.drop(columns=["theta_rad", "phi_rad"]),
            r"no column 'theta_rad' \(2 missing\): expected",
        ),
        (lambda events: events.to_numpy()[:, :5], r"expected an array of events x 6 columns \(energy_gev, .*\(10, 5\)"),
        (lambda events: events.to_numpy()[0], r"expected an array of events x 6 columns"),
        (with_value("energy_gev", -0.1), r"event 3: 'energy_gev': expected 0 or more, in GeV, found -0.1 \(1 such"),
        (with_value("px_gev", np.nan), "event 3: 'px_gev': expected finite numbers, in GeV, found nan"),
        (with_value("phi_rad", -np.inf), "event 3: 'phi_rad': expected finite numbers, in rad, found -inf"),
        (with_value("pz_gev", 1e300), "event 3: 'pz_gev': expected finite numbers, in GeV, found inf"),
        (with_value("pz_gev", "much"), "expected numbers, found object"),
    ],
)
def test_values_that_cannot_be_are_refused(zdc: Served, change: Callable[[pd.DataFrame], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        zdc.predict(change(events_of(zdc)[:10]))


def test_no_energy_is_a_value(zdc: Served) -> None:
    assert np.isfinite(zdc.predict(events_of(zdc)[:10].assign(energy_gev=0.0))).all()


def test_negative_energy_of_a_cluster_is_refused(served: dict[str, Served]) -> None:
    with pytest.raises(DataError, match="event 3: 'e_inner_face_gev': expected 0 or more"):
        served["pt-energy"].predict(with_value("e_inner_face_gev", -1.0)(events_of(served["pt-energy"])))


def test_points_at_the_same_place_have_no_pt(served: dict[str, Served]) -> None:
    events = events_of(served["pt-dphi"])
    events.loc[4, ["x_outer_intt_cm", "y_outer_intt_cm"]] = events.loc[
        4, ["x_inner_intt_cm", "y_inner_intt_cm"]
    ].to_numpy()
    with pytest.raises(DataError, match=r"event 4: no prediction \(1 such events\): are two of its points"):
        served["pt-dphi"].predict(events)


@pytest.mark.parametrize("workload", packed.WORKLOADS)
def test_what_the_model_does_not_know_is_said(served: dict[str, Served], workload: str) -> None:
    model = served[workload]
    events = events_of(model)
    known = model.predict(events)  # without a warning, or this test would fail
    column = model.package.manifest.inputs[0]
    events.loc[[2, 5], column.name] = column.highest + 0.2 * (column.highest - column.lowest)
    message = (
        rf"'{column.name}': the model was checked on .* {column.unit}; "
        rf"2 of {len(events)} events lie outside, as event 2 "
    )
    with pytest.warns(ExtrapolationWarning, match=message):
        found = model.predict(events)
    np.testing.assert_array_equal(np.delete(found, [2, 5], axis=0), np.delete(known, [2, 5], axis=0))


# ---------------------------------------------------------------- loading


def test_a_changed_package_is_not_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["zdc"], tmp_path / "copy")
    (tmp_path / "copy" / "zdc_mask.onnx").write_bytes(b"something else")
    with pytest.raises(PackageError, match=r"zdc_mask.onnx: changed"):
        _load_pyfunc(str(tmp_path / "copy"))


@pytest.mark.parametrize("workload", packed.WORKLOADS)
def test_a_package_of_format_1_predicts_the_same(
    folders: dict[str, Path], served: dict[str, Served], tmp_path: Path, workload: str
) -> None:
    """It names no loader; models that were registered with it stay in use."""
    shutil.copytree(folders[workload], tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "model.json").read_text())
    manifest["format"] = 1
    del manifest["loader"], manifest["output"]["sampled"], manifest["output"]["undefined"]
    for column in manifest["inputs"]:
        del column["minimum"]
    (tmp_path / "copy" / "model.json").write_text(json.dumps(manifest))
    before = _load_pyfunc(str(tmp_path / "copy"))
    assert before.package.manifest == served[workload].package.manifest
    np.testing.assert_array_equal(before.predict(events_of(before)), served[workload].predict(events_of(before)))


def test_a_package_may_be_pinned(folders: dict[str, Path]) -> None:
    digest = read_package(folders["zdc"]).digest
    assert _load_pyfunc(str(folders["zdc"]), {"digest": digest}).package.digest == digest
    with pytest.raises(PackageError, match="it was changed"):
        _load_pyfunc(str(folders["zdc"]), {"digest": read_package(folders["pt-dphi"]).digest})


@pytest.mark.parametrize("change", [{"hidden_dim": 8}, {"hidden_dim": 5}, {"no_such_parameter": 1}])
def test_weights_and_hyperparameters_must_fit(folders: dict[str, Path], tmp_path: Path, change: dict[str, int]) -> None:
    shutil.copytree(folders["zdc"], tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "model.json").read_text())
    manifest["model"]["hyperparameters"].update(change)
    (tmp_path / "copy" / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match="do not fit the model 'zdc' of this program"):
        _load_pyfunc(str(tmp_path / "copy"))


def test_neither_the_platform_nor_onnx_is_needed_to_use_a_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """Nor any code of the folder."""
    script = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow", "optuna", "onnx", "onnxruntime", "search", "spaces"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from trainables.export.mlflow_loader import _load_pyfunc, input_example
for folder in {[str(folder) for folder in folders.values()]}:
    model = _load_pyfunc(folder)
    assert len(model.predict(input_example(model.package))) == 3
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


# ---------------------------------------------------------------- in MLflow's hands


def test_a_signature_names_columns_output_and_parameters(served: dict[str, Served]) -> None:
    signature = signature_of(served["zdc"].package)
    assert signature.inputs == dict.fromkeys(CONDITIONS, "double")
    assert (signature.output, signature.output_type, signature.output_shape) == (
        "hit_probability",
        "float32",
        (-1, 20, 20),
    )
    assert signature.parameters == {"sample": False, "seed": 0}
    signature = signature_of(served["pt-combined"].package)
    assert (signature.output, signature.output_shape, signature.parameters) == ("pt_gev", (-1,), {})


def test_the_example_is_of_events_that_the_model_knows(served: dict[str, Served]) -> None:
    for model in served.values():
        pd.testing.assert_frame_equal(input_example(model.package), events_of(model)[:3], check_column_type=False)


def test_requirements_are_exact_versions_of_what_is_installed() -> None:
    assert [requirement.partition("==")[0] for requirement in requirements()] == [
        *("torch", "safetensors", "pydantic", "numpy", "pandas"),
    ]
    assert all("+" not in requirement and requirement.partition("==")[2] for requirement in requirements())


@pytest.fixture(scope="module")
def logged(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages as MLflow models, as promotion makes them."""
    from search.promotion.mlflow_model import save_model

    parent = tmp_path_factory.mktemp("models")
    for workload, folder in folders.items():
        save_model(read_package(folder), parent / workload)
    return {workload: parent / workload for workload in folders}


def test_mlflow_loads_and_asks_every_model(logged: dict[str, Path], served: dict[str, Served]) -> None:
    import mlflow.pyfunc

    for workload, folder in logged.items():
        model = mlflow.pyfunc.load_model(str(folder))
        events = events_of(served[workload])[:7]
        np.testing.assert_array_equal(model.predict(events), served[workload].predict(events))
        units = {column.name: column.unit for column in served[workload].package.manifest.inputs}
        assert model.metadata.metadata["inputs"] == units
        assert list(units) == list(events.columns)
    hits = mlflow.pyfunc.load_model(str(logged["zdc"])).predict(
        events_of(served["zdc"]), params={"sample": True, "seed": 7}
    )
    np.testing.assert_array_equal(hits, served["zdc"].predict(events_of(served["zdc"]), {"sample": True, "seed": 7}))


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "integers": lambda events: events,
    "small integers": lambda events: events.astype("int16"),
    "nullable integers": lambda events: events.astype("Int64"),
    "objects": lambda events: events.astype(object),
    "floats": lambda events: events.astype(np.float32),
    "other columns and order": lambda events: events.assign(run=7)[["run", *events.columns[::-1]]],
    "array": lambda events: events.to_numpy(),
    "array of floats": lambda events: events.to_numpy(dtype=np.float32),
    "numbered columns": lambda events: pd.DataFrame(events.to_numpy()),
    "lists": lambda events: events.to_numpy().tolist(),
    "columns": lambda events: events.to_dict("list"),
    "records": lambda events: events.to_dict("records"),
}


def whole_numbers(model: Served) -> pd.DataFrame:
    """Events of integers alone, within what the model knows."""
    events = events_of(model)[:3].copy()
    for column in model.package.manifest.inputs:
        events[column.name] = [np.clip(0, np.ceil(column.lowest), np.floor(column.highest))] * 3
    return events.astype(np.int64)


@pytest.mark.filterwarnings("ignore::trainables.export.mlflow_loader.ExtrapolationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_mlflow_takes_events_as_users_give_them(logged: dict[str, Path], zdc: Served, form: str) -> None:
    import mlflow.pyfunc

    events = whole_numbers(zdc)
    found = mlflow.pyfunc.load_model(str(logged["zdc"])).predict(FORMS[form](events))
    np.testing.assert_array_equal(found, zdc.predict(events.astype(np.float64)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda events: events.drop(columns="phi_rad"),
            r"no column 'phi_rad' \(1 missing\): expected energy_gev, .*; found",
        ),
        (lambda events: events.to_dict("records")[0] | {"phi_rad": "much"}, "expected numbers, found object"),
        (lambda events: {"energy_gev": [1.0]}, r"no column 'px_gev' \(5 missing\)"),
        (lambda events: {"energy_gev": [1.0], "px_gev": [1.0, 2.0]}, "expected columns of equally many values"),
        (lambda events: events.to_numpy()[:, :5], r"expected an array of events x 6 columns \(energy_gev.*\(10, 5\)"),
        (lambda events: [[1, 2, 3], [1, 2]], "expected an array of events x 6 columns .* rows of unequal lengths"),
        (lambda events: events.assign(energy_gev=None), "event 0: 'energy_gev': expected 0 or more"),
    ],
)
def test_mlflow_passes_on_the_reason_of_a_refusal(
    logged: dict[str, Path], zdc: Served, change: Callable[[pd.DataFrame], Any], message: str
) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    data = change(events_of(zdc)[:10])
    with pytest.raises(DataError, match=rf"\A{message}"):
        zdc.predict(data)
    with pytest.raises(MlflowException, match=rf"\A{message}") as refused:
        mlflow.pyfunc.load_model(str(logged["zdc"])).predict(data)
    refused.value.message = f"Failed to predict data '{data}'"  # what MLflow's server does
    assert json.loads(refused.value.serialize_as_json())["message"] == str(refused.value)
    assert refused.value.get_http_status_code() == 400


def test_a_model_that_was_registered_under_the_old_loader_module_loads(
    logged: dict[str, Path], served: dict[str, Served], tmp_path: Path
) -> None:
    import mlflow.pyfunc

    shutil.copytree(logged["pt-dphi"], tmp_path / "model")
    description = tmp_path / "model" / "MLmodel"
    today, before = "loader_module: trainables.export.mlflow_loader\n", "loader_module: trainables.serving\n"
    assert today in description.read_text()
    description.write_text(description.read_text().replace(today, before))
    events = events_of(served["pt-dphi"])[:7]
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(events)
    np.testing.assert_array_equal(found, served["pt-dphi"].predict(events))


def test_mlflow_does_not_load_a_changed_model(logged: dict[str, Path], tmp_path: Path) -> None:
    import mlflow.pyfunc

    shutil.copytree(logged["pt-dphi"], tmp_path / "model")
    (weights,) = (tmp_path / "model").rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"1234")
    with pytest.raises(PackageError, match=r"weights.safetensors: changed"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


@pytest.mark.slow
def test_a_model_loads_in_a_fresh_process_elsewhere(
    logged: dict[str, Path], served: dict[str, Served], tmp_path: Path
) -> None:
    script = f"""
import mlflow, numpy, sys
for workload, folder in { ({name: str(folder) for name, folder in logged.items()}) }.items():
    model = mlflow.pyfunc.load_model(folder)
    numpy.save(workload, model.predict(model.input_example))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=packed.quiet(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    for workload, model in served.items():
        np.testing.assert_allclose(
            np.load(tmp_path / f"{workload}.npy"), model.predict(input_example(model.package)), rtol=1e-6
        )


@pytest.mark.slow
def test_mlflow_serves_hit_maps(logged: dict[str, Path], served: dict[str, Served], tmp_path: Path) -> None:
    events = events_of(served["zdc"])[:4]
    with serving(logged["zdc"], tmp_path) as ask:
        np.testing.assert_allclose(ask(events), served["zdc"].predict(events), rtol=1e-6)
        params = {"sample": True, "seed": 7}
        np.testing.assert_array_equal(ask(events, params), served["zdc"].predict(events, params))
        whole = events.assign(energy_gev=5)  # as JSON has it: a whole number
        assert ask(whole).shape == (4, 20, 20)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(events.assign(energy_gev=-1.0))
        assert refused.value.code == 400
        answer = json.load(refused.value)
        assert answer["message"].startswith("event 0: 'energy_gev': expected 0 or more, in GeV, found -1")
        for inputs in (events.to_numpy().tolist(), events.to_dict("list")):
            np.testing.assert_allclose(ask({"inputs": inputs}), served["zdc"].predict(events), rtol=1e-6)
        for rows in (events.to_numpy().tolist(), events.to_dict("records")):
            np.testing.assert_allclose(ask({"instances": rows}), served["zdc"].predict(events), rtol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(events.drop(columns="phi_rad"))
        assert json.load(refused.value)["message"].startswith("no column 'phi_rad' (1 missing): expected energy_gev")


@pytest.mark.slow
def test_mlflow_serves_pt(logged: dict[str, Path], served: dict[str, Served], tmp_path: Path) -> None:
    events = events_of(served["pt-combined"])[:4]
    with serving(logged["pt-combined"], tmp_path) as ask:
        np.testing.assert_allclose(ask(events), served["pt-combined"].predict(events), rtol=1e-6)
        np.testing.assert_allclose(ask(events[events.columns[::-1]]), served["pt-combined"].predict(events), rtol=1e-6)


@contextmanager
def serving(model: Path, folder: Path) -> Iterator[Callable[..., NDArray[np.float64]]]:
    """``mlflow models serve`` in a process of its own; yields what asks it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=packed.quiet(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ask(events: pd.DataFrame | dict[str, Any], params: dict[str, Any] | None = None) -> NDArray[np.float64]:
        if isinstance(events, pd.DataFrame):
            body = {"dataframe_split": {"columns": list(events.columns), "data": events.to_numpy().tolist()}}
        else:
            body = events
        body |= {"params": params} if params else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return np.array(json.load(answer)["predictions"])

    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", process, folder / "log")
        yield ask
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
