"""Convert learning curves of other people's runs, in the forms in which they are published, to tables of this bench.

python -m benchmarks.methods.importers PATH FOLDER
"""

# P point, D hyperparameter, S seed, E epoch

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.stats import qmc

from benchmarks.methods.table import Floats, Parameter, Table, write

LCBENCH_POINTS = 1024  # Sobol points at which the surrogate is asked
_SLOWEST = 5.0  # times the median: the surrogate's times have outliers of a hundred
_LCBENCH_FIRST = 1  # its first epoch is left out: the surrogate is poor there


def convert(path: Annotated[Path, tyro.conf.Positional], folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write the tables of published data into a folder.

    Parameters
    ----------
    path
        ``taskset_dev.npz``, or the folder of the LCBench surrogate (``model.onnx`` and what belongs to it).
    folder
        Where the tables go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for table in _lcbench(path) if path.is_dir() else _taskset(path):
        family, _, name = table.name.partition(":")
        parameters = [asdict(one) for one in table.parameters]
        about = {"family": table.family, "parameters": parameters, "source": path.name}
        arrays = {
            "points": table.point_PD,
            "seconds": table.seconds_PS,
            "progress": table.progress_PE.astype(np.float32),
            "loss/loss": table.loss_PSE.astype(np.float32),
            "true/loss": table.true_PS,
        }
        write(folder / f"{family}-{name}.npz", about, arrays)
        print(table.name)


def _taskset(file: Path) -> Iterator[Table]:
    """TaskSet (Metz et al., arXiv:2002.11887) as DyHPO publishes it: 8 parameters of Adam; judged on test events."""
    with np.load(file) as content:
        arrays = {name: content[name].astype(np.float64) for name in content.files if "/" in name}
        names = [str(name) for name in content["hyperparameter_names"]]
    for task in sorted({name.partition("/")[0] for name in arrays}):
        point_PD = arrays[f"{task}/hyperparameters"].copy()
        for column in (names.index("beta1"), names.index("beta2")):  # drawn so that 1 - beta is even in its logarithm
            point_PD[:, column] = 1 - point_PD[:, column]
        parameters = tuple(
            Parameter(name, "float", *_decades(column_P), log=True)
            for name, column_P in zip(names, point_PD.T, strict=True)
        )
        loss_PE = arrays[f"{task}/valid"][:, 1:]  # without the untrained network
        points, epochs = loss_PE.shape
        yield Table(
            name=f"taskset:{task}",
            family="taskset",
            parameters=parameters,
            point_PD=point_PD,
            loss_PSE=loss_PE[:, None],
            true_PS=arrays[f"{task}/test"][:, -1:],
            seconds_PS=np.ones((points, 1)),
            progress_PE=np.tile(100.0 * np.arange(1, epochs + 1) / epochs, (points, 1)),
        )


def _decades(column_P: Floats) -> tuple[float, float]:
    """Return whole powers of ten around all values."""
    return float(10.0 ** np.floor(np.log10(column_P.min()))), float(10.0 ** np.ceil(np.log10(column_P.max())))


def _lcbench(folder: Path) -> Iterator[Table]:
    """The surrogate of LCBench (Zimmer et al., arXiv:2006.13799; Pfisterer et al., arXiv:2109.03670), at Sobol points.

    Its values stand for no real training; inside the best few per cent its order is hardly that of real ones.
    """
    import onnxruntime

    space = {one["name"]: one for one in json.loads((folder / "config_space.json").read_text())["hyperparameters"]}
    codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    # the order of the model's inputs after the epoch
    names = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
    parameters = tuple(
        Parameter(
            name,
            "int" if space[name]["type"] == "uniform_int" else "float",
            space[name]["lower"],
            space[name]["upper"],
            log=space[name]["log"],
        )
        for name in names
    )
    epochs = int(space["epoch"]["upper"])
    cube_PD = qmc.Sobol(len(names), rng=np.random.default_rng(2)).random(LCBENCH_POINTS)
    point_PD = np.stack([_stretched(one, u_P) for one, u_P in zip(parameters, cube_PD.T, strict=True)], axis=1)
    epoch_PE = np.tile(np.arange(1.0, epochs + 1), (LCBENCH_POINTS, 1))
    inputs = np.column_stack((epoch_PE.ravel(), np.repeat(point_PD, epochs, axis=0))).astype(np.float32)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for task in space["OpenML_task_id"]["choices"]:
        codes_N1 = np.full((len(inputs), 1), codes[task], np.int32)
        (outputs,) = session.run(None, {"x_cat": codes_N1, "x_cont": inputs})
        time_PE, loss_PE = (outputs[:, column].reshape(LCBENCH_POINTS, epochs) for column in (0, 2))
        seconds_P = np.maximum(time_PE[:, -1].astype(np.float64) / epochs, 1e-3)
        seconds_P = seconds_P.clip(np.median(seconds_P) / _SLOWEST, np.median(seconds_P) * _SLOWEST)
        kept_PE = loss_PE[:, _LCBENCH_FIRST:].astype(np.float64)
        yield Table(
            name=f"lcbench:{task}",
            family="lcbench",
            parameters=parameters,
            point_PD=point_PD,
            loss_PSE=kept_PE[:, None],
            true_PS=kept_PE[:, None, -1],
            seconds_PS=seconds_P[:, None],
            progress_PE=np.tile(100.0 * np.arange(2, epochs + 1) / epochs, (LCBENCH_POINTS, 1)),
        )


def _stretched(parameter: Parameter, u_P: Floats) -> Floats:
    low, high = parameter.low, parameter.high
    if parameter.kind == "int":
        high += 1 - 1e-9
    value_P = low * (high / low) ** u_P if parameter.log else low + (high - low) * u_P
    return np.floor(value_P) if parameter.kind == "int" else value_P


if __name__ == "__main__":
    tyro.cli(convert)
