"""Load a package of a model that is trained on arrays by name: its class is found by the word in the manifest."""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.base.errors import DataError
from trainables.runtime.imports import file_of, import_word

if TYPE_CHECKING:
    from trainables.export.package import Package

log = logging.getLogger(__name__)


def load(package: Package) -> Callable[..., Any]:
    """Make the model of a package: a function of its input arrays.

    Raises
    ------
    DataError
        The user's code is not to be found here.
    """
    word, code = str(package.manifest.data["word"]), str(package.manifest.data["code"])
    workload = import_word(found := _found(word, code))
    log.info("model package %s: imported %s", package.folder, found)
    training, config = workload.training, workload.config
    if code and code_digest(training) != code:
        log.warning("%s has changed since this model was promoted", inspect.getfile(training))
    source = package.model
    built = training.from_weights(config(**source.hyperparameters), source.weights, torch.device("cpu"))
    predict: Callable[..., Any] = built.predict
    return predict


def _found(word: str, code: str) -> str:
    """Return the word with a file that is there: the one with the promoted code first, then any of its name."""
    file = file_of(word)
    if file is None:
        return word
    there = [path for path in (file, *(Path(place or ".") / file.name for place in sys.path)) if path.is_file()]
    if not there:
        raise DataError(
            f"This model is made by {file.name}, which is neither {file} nor on the path of Python. Bring the file, or "
            f"set PYTHONPATH to its folder."
        )
    same = [path for path in there if hashlib.sha256(path.read_bytes()).hexdigest() == code]
    return f"{(same or there)[0].resolve()}:{word.rpartition(':')[2]}"


def code_digest(training: type) -> str:
    """Hash the file of the training's code; empty: it is in none."""
    try:
        return hashlib.sha256(Path(inspect.getfile(training)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""
