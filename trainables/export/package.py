"""Write a model as a folder of plain files, and read it back only where every byte matches its manifest."""

# The folder: model.json (the manifest), weights.safetensors, ONNX graphs, scalers as JSON. Nothing in it is code.

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from trainables.base.errors import DataError
from trainables.base.training import TrainedModel
from trainables.export.format_1 import upgraded
from trainables.export.manifest import FORMAT, WEIGHTS, Description, Manifest, Source, Stored

MANIFEST = "model.json"
MODEL, BRANCH = "model/", "branch/"  # how names of tensors begin; then the branch's workload and another slash
ADVICE = "Export it again from the registry, or promote again; a package is never repaired by hand."


class PackageError(DataError):
    """A package that is not whole, not as it was written, or not of this program."""


@dataclass(frozen=True)
class Package:
    """A verified package."""

    folder: Path
    digest: str  # SHA-256 of the manifest, which holds those of all other files
    manifest: Manifest
    model: TrainedModel
    branches: Mapping[str, TrainedModel]


def write_package(
    folder: Path,
    description: Description,
    model: TrainedModel,
    branches: Mapping[str, TrainedModel],
    files: Mapping[str, bytes],
) -> Package:
    """Write a package and read it back.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty.
    description : Description
    model : TrainedModel
    branches : mapping of workload to TrainedModel
    files : mapping of name to content
        All files besides manifest and weights.

    Raises
    ------
    DataError
        The folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: expected no such folder, or an empty one, found files. Choose another.")
    contents = {WEIGHTS: safetensors.torch.save(_flat(model, branches)), **files}
    manifest = Manifest(
        **dict(description),
        format=FORMAT,
        model=_source(model),
        branches={name: _source(branch) for name, branch in branches.items()},
        files={name: Stored(sha256=_sha256(data), bytes=len(data)) for name, data in contents.items()},
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    temporary = folder.absolute().with_name(f".{folder.name}-{uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        for name, data in {MANIFEST: text.encode(), **contents}.items():
            (temporary / name).write_bytes(data)
        temporary.rename(folder)  # an empty folder is replaced
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_package(folder)


def read_package(folder: Path, digest: str | None = None) -> Package:
    """Read a package; nothing in it is executed, and nothing is used that does not match the manifest.

    Parameters
    ----------
    folder : Path
    digest : str, optional
        ``Package.digest`` as it was written: then a package that was changed together with its manifest is refused
        too.

    Raises
    ------
    PackageError
        A file is missing, changed, or one too many; the manifest is of another kind or digest.
    """
    text = _read(folder, MANIFEST)
    found = _sha256(text)
    if digest is not None and found != digest:
        raise PackageError(f"{folder / MANIFEST}: expected SHA-256 {digest}, found {found}: it was changed. {ADVICE}")
    manifest = _parsed(folder, text)
    weights = _verified(folder, manifest)
    tensors = _tensors(folder, weights)
    return Package(
        folder=folder,
        digest=found,
        manifest=manifest,
        model=_model(manifest.model, tensors, MODEL),
        branches={name: _model(source, tensors, f"{BRANCH}{name}/") for name, source in manifest.branches.items()},
    )


def _parsed(folder: Path, text: bytes) -> Manifest:
    try:
        written = json.loads(text)
        version = written["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackageError(f"{folder / MANIFEST}: not the manifest of a model package ({error!r}). {ADVICE}") from error
    if version not in (1, FORMAT):
        raise PackageError(f"{folder / MANIFEST}: expected format {FORMAT}, found {version!r}. Update hep-search.")
    try:
        return Manifest.model_validate(upgraded(written) if version == 1 else written)
    except (KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{folder / MANIFEST}: not the manifest of a model package ({error!r}). {ADVICE}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"{folder / MANIFEST}: '{where}': {first['msg']}. {ADVICE}") from error


def _verified(folder: Path, manifest: Manifest) -> bytes:
    """Return the weights' bytes, after the check that all files are there and match, and no others."""
    there = {path.name for path in folder.iterdir()}
    if extra := sorted(there - {MANIFEST, *manifest.files}):
        raise PackageError(f"{folder / extra[0]}: this file is not in the manifest ({len(extra)} such). {ADVICE}")
    weights = b""
    for name, stored in manifest.files.items():
        data = _read(folder, name)
        if len(data) != stored.bytes or _sha256(data) != stored.sha256:
            raise PackageError(
                f"{folder / name}: changed since it was written: expected {stored.bytes} bytes of SHA-256 "
                f"{stored.sha256}, found {len(data)} of {_sha256(data)}. {ADVICE}"
            )
        weights = data if name == WEIGHTS else weights
    return weights


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            there = "a link or a folder" if path.is_symlink() or path.exists() else "none"
            raise PackageError(f"{path}: expected a file of the model package, found {there}. {ADVICE}")
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _flat(model: TrainedModel, branches: Mapping[str, TrainedModel]) -> dict[str, Tensor]:
    """Collect all tensors under one name each, in one memory layout on any device."""
    owners = {MODEL: model} | {f"{BRANCH}{name}/": branch for name, branch in branches.items()}
    return {
        f"{prefix}{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for prefix, owner in owners.items()
        for name, tensor in owner.weights.items()
    }


def _tensors(folder: Path, weights: bytes) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load(weights))
    except SafetensorError as error:
        raise PackageError(f"{folder / WEIGHTS}: not a safetensors file ({error}). {ADVICE}") from error


def _model(source: Source, tensors: Mapping[str, Tensor], prefix: str) -> TrainedModel:
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return TrainedModel(source.workload, source.run, source.hyperparameters, weights)


def _source(model: TrainedModel) -> Source:
    return Source(workload=model.workload, run=model.run, hyperparameters=dict(model.hyperparameters))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
