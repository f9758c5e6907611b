"""Import what a word names: MODULE:ATTRIBUTE, or FILE.py:ATTRIBUTE from outside of any package."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.base.errors import DataError

_from_files: dict[str, Path] = {}  # modules that were imported by the name of a file


def import_word(word: str) -> Any:
    """Import the object that a word names.

    Raises
    ------
    DataError
        There is no such file, module or attribute, or importing it failed.
    """
    place, _, attribute = word.rpartition(":")
    file = file_of(word)
    try:
        module = _import_module(place) if file is None else _import_file(existing(file))
    except (DataError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a module may raise anything, even SystemExit
        raise DataError(f"{word}: importing it failed{_place(error)}: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        there = [name for name in vars(module) if not name.startswith("_")]
        near = get_close_matches(attribute, there, n=3, cutoff=0.45)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise DataError(f"{word}: {place} has no attribute {attribute!r}.{hint}") from None


def file_of(word: str) -> Path | None:
    """Return the file that a word names; None for a word of another kind."""
    place, colon, _ = word.rpartition(":")
    return Path(place).expanduser() if colon and place.endswith(".py") else None


def existing(file: Path) -> Path:
    """Return the file, or one of its name in this folder: that is where a job of a cluster finds what was sent."""
    here = Path(file.name)
    return here if not file.exists() and here.exists() else file


def is_from_file(module: str) -> bool:
    """Return whether a module was imported by the name of its file, so that no other process finds it by its own."""
    return module in _from_files


def modules_to_send() -> Iterator[ModuleType]:
    """Yield the modules that workers cannot import by name: those of files, and what lies beside these."""
    folders = {file.parent for file in _from_files.values()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__" and Path(file).suffix == ".py" and Path(file).resolve().parent in folders:
            yield module


def _place(error: BaseException) -> str:
    """Return the last line of the user's code that was run, in parentheses."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    outside = [frame for frame in frames if frame.filename != __file__]
    return f" ({Path(outside[-1].filename).name}:{outside[-1].lineno})" if outside else ""


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as python -m has it
    return import_module(name)


def _import_file(file: Path) -> ModuleType:
    """Import a file under its own name, with what lies beside it; a second time only if it is another file."""
    file = file.resolve()
    if not file.is_file():
        near = get_close_matches(file.name, [path.name for path in file.parent.glob("*.py")], n=3)
        hint = f" Nearest in that folder: {', '.join(near)}." if near else ""
        raise DataError(f"{file}: there is no such file.{hint}")
    name = _module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], _from_files[name] = module, file
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name], _from_files[name]
        raise
    return module


def _module_name(file: Path) -> str:
    """Return the file's own name, unless another module has it: then a longer one."""
    if (taken := sys.modules.get(file.stem)) is not None:
        free = getattr(taken, "__file__", None) == str(file)
    else:
        found = importlib.util.find_spec(file.stem) if file.stem.isidentifier() else None
        free = file.stem.isidentifier() and (found is None or found.origin == str(file))
    return file.stem if free else f"{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
