"""A package as an MLflow model: what ``mlflow.pyfunc.load_model`` and ``mlflow models serve`` take.

Its files are data only. MLflow loads it with ``trainables.export.mlflow_loader``, which must be installed there.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about type hints of MLflow's own
    import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from trainables.export.mlflow_loader import input_example, requirements, signature_of
from trainables.export.package import Package

PACKAGE = "data/package"  # of the model's files
_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


def save_model(package: Package, folder: Path) -> None:
    """Write the model into a folder that does not exist yet.

    The package lies in it as it was, and its digest is part of the model's own configuration: a package that was
    exchanged for another, however whole, does not load.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how MLflow uses pandas
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module="trainables.export.mlflow_loader",
            data_path=str(package.folder),
            signature=_signature(package),
            input_example=input_example(package),
            model_config={"digest": package.digest},
            pip_requirements=requirements(),
            metadata={"workload": package.manifest.model.workload, "package": package.digest},
        )


def _signature(package: Package) -> ModelSignature:
    about = signature_of(package)
    parameters = [ParamSpec(name, _TYPES[type(value)], value) for name, value in about.parameters.items()]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name) for name, kind in about.inputs.items()]),
        outputs=Schema([TensorSpec(np.dtype(about.output_type), about.output_shape, about.output)]),
        params=ParamSchema(parameters) if parameters else None,
    )
