"""Save a package as an MLflow model for ``mlflow.pyfunc.load_model`` and ``mlflow models serve``.

The model's files are data, and of a workload from outside its own code. MLflow loads them with
``trainables.export.mlflow_loader``, which must be installed.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about type hints in MLflow itself
    import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from trainables.export.mlflow_loader import input_example, requirements, signature_of
from trainables.export.package import Package
from trainables.runtime.imports import file_of, modules_to_send

PACKAGE = "data/package"  # folder of the package in the model
_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


def save_model(package: Package, folder: Path) -> None:
    """Save the model in a folder that does not exist yet.

    The package is copied unchanged. Its digest becomes a part of the model's configuration, so that a model with
    another package, even a valid one, does not load.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about MLflow's use of pandas
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module="trainables.export.mlflow_loader",
            data_path=str(package.folder),
            signature=_signature(package),
            input_example=input_example(package),
            model_config={"digest": package.digest},
            pip_requirements=requirements(),
            code_paths=_user_code(package) or None,
            metadata={
                "workload": package.manifest.model.workload,
                "package": package.digest,
                "inputs": {column.name: column.unit for column in package.manifest.inputs},
            },
        )


def load_saved(folder: Path) -> mlflow.pyfunc.PyFuncModel:
    """Load a model from its folder."""
    return mlflow.pyfunc.load_model(str(folder))


def _user_code(package: Package) -> list[str]:
    """List the files of a workload from outside: they travel with the model, because no package has them."""
    file = file_of(str(package.manifest.data.get("word", "")))
    if file is None:
        return []
    return [str(module.__file__) for module in modules_to_send() if Path(str(module.__file__)).parent == file.parent]


def _signature(package: Package) -> ModelSignature:
    """Describe output and parameters, not the inputs.

    MLflow would refuse whole numbers and arrays for inputs with types and names, in its own words. The model accepts
    and checks them itself; their names and units are in the metadata.
    """
    about = signature_of(package)
    parameters = [ParamSpec(name, _TYPES[type(value)], value) for name, value in about.parameters.items()]
    return ModelSignature(
        outputs=Schema([TensorSpec(np.dtype(about.output_type), about.output_shape, about.output)]),
        params=ParamSchema(parameters) if parameters else None,
    )
