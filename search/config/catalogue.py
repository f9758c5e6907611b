"""Find a workload by its word: a carried one by its name, FILE.py:ATTRIBUTE, MODULE:ATTRIBUTE, or one of a package."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from search.errors import UsageError
from search.workload import Chain, Workload
from search.workloads import CHAINS, WORKLOADS

GROUP = "hep_search.workloads"  # entry points of installed packages
_FORMS = "a name, FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE"


def titles() -> dict[str, str]:
    """Return the title of each workload and chain that has a name, without importing any."""
    offered = {name: f"of package {entry.dist.name if entry.dist else '?'}" for name, entry in _offered().items()}
    return {**offered, **WORKLOADS.titles, **CHAINS.titles}


def find(word: str) -> Workload | Chain:
    """Return the workload or chain of this word.

    Raises
    ------
    UsageError
        There is none, or the user's file or module cannot be imported.
    """
    if word in CHAINS:
        return CHAINS[word]
    if word in WORKLOADS:
        return WORKLOADS[word]
    if entry := _offered().get(word):
        return _as_workload(_imported(entry.value, word), word, word)
    if ":" in word:
        return _as_workload(_imported(word, word), word, absolute_word(word))
    if word.endswith(".py"):
        raise UsageError(f"{word}: say which workload of the file, as in {word}:WORKLOAD.")
    near = get_close_matches(word, list(titles()), n=3, cutoff=0.45)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"There is no workload {word!r}.{hint} There are: {', '.join(titles())}; or give {_FORMS}.")


def find_workload(word: str) -> Workload:
    """Return the workload of this word; raises UsageError as ``find`` does, and for a chain."""
    found = find(word)
    if isinstance(found, Chain):
        raise UsageError(f"{word} is a chain. Name one of its workloads: {', '.join(found.workloads)}.")
    return found


def workload_of(description: Mapping[str, Any]) -> Workload | None:
    """Return the workload of a search, as its directory describes it; None where its code is not to be found here."""
    words = [description["workload"], *([description["word"]] if "word" in description else [])]
    for word in reversed(words):
        try:
            return find_workload(word)
        except UsageError:
            continue
    return None


def word_of(workload: Workload) -> str:
    """Return the word by which other processes find a workload that Python code holds; its name where there is none.

    A module that runs as a script is named by its file.
    """
    if workload.name in WORKLOADS and WORKLOADS[workload.name] == workload:
        return workload.name
    for module in dict.fromkeys([workload.training.__module__, workload.config.__module__, "__main__"]):
        there = sys.modules.get(module)
        for attribute, value in vars(there).items() if there else ():
            if isinstance(value, Workload) and replace(value, word="") == replace(workload, word=""):
                file = getattr(there, "__file__", None)
                if module == "__main__" or module in _from_files:
                    return f"{Path(file).resolve()}:{attribute}" if file else workload.name
                return f"{module}:{attribute}"
    return workload.name


def file_of(word: str) -> Path | None:
    """Return the file that a word names; None for all other words."""
    place, colon, _ = word.rpartition(":")
    return Path(place).expanduser() if colon and place.endswith(".py") else None


def absolute_word(word: str) -> str:
    """Return a word that is valid in any folder of this machine."""
    file = file_of(word)
    return word if file is None else f"{_existing(file).resolve()}:{word.rpartition(':')[2]}"


def _existing(file: Path) -> Path:
    """Return the file, or one of its name in this folder: that is where a job of a cluster finds what was sent."""
    here = Path(file.name)
    return here if not file.exists() and here.exists() else file


def _offered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _imported(reference: str, word: str) -> Any:
    """Import what FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE names."""
    place, _, attribute = reference.rpartition(":")
    try:
        module = _import_file(_existing(Path(place).expanduser())) if place.endswith(".py") else _import(place)
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a module may raise anything, even SystemExit
        where = _last_place(error)
        raise UsageError(f"{word}: importing it failed{where}: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        there = [name for name, value in vars(module).items() if isinstance(value, Workload)]
        hint = f"It has {', '.join(there)}" if there else "It has no workload at all"
        raise UsageError(f"{word}: {place} has no attribute {attribute!r}. {hint}.") from None


def _last_place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    outside = [frame for frame in frames if frame.filename != __file__]
    return f" ({Path(outside[-1].filename).name}:{outside[-1].lineno})" if outside else ""


def _import(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as python -m has it
    return import_module(name)


_from_files: dict[str, Path] = {}  # modules that were imported by a file's name


def _import_file(file: Path) -> ModuleType:
    """Import a file under its own name, with what lies beside it; again only if it is another file."""
    file = file.resolve()
    if not file.is_file():
        near = get_close_matches(file.name, [path.name for path in file.parent.glob("*.py")], n=3)
        hint = f" Nearest in that folder: {', '.join(near)}." if near else ""
        raise UsageError(f"{file}: there is no such file.{hint}")
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
    """Return the file's own name, unless another module has it: then one of its own."""
    taken = sys.modules.get(file.stem)
    if taken is None:
        found = importlib.util.find_spec(file.stem) if file.stem.isidentifier() else None
        free = file.stem.isidentifier() and (found is None or found.origin == str(file))
    else:
        free = getattr(taken, "__file__", None) == str(file)
    return file.stem if free else f"{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"


def modules_to_send() -> Iterator[ModuleType]:
    """Yield the modules that workers cannot import by name: those of files, and what lies beside these."""
    folders = {file.parent for file in _from_files.values()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name != "__main__" and Path(file).suffix == ".py" and Path(file).resolve().parent in folders:
            yield module


def for_a_job(word: str) -> tuple[str, list[Path]]:
    """Return the word of a workload, found before, in the working directory of a job, and the code to send along."""
    if (file := file_of(word)) is not None:
        sent = [Path(str(module.__file__)).resolve() for module in modules_to_send()]
        return f"{file.name}:{word.rpartition(':')[2]}", sent
    name = word.partition(":")[0] if ":" in word else ""
    top = sys.modules.get(name.partition(".")[0])
    places = [Path(place) for place in getattr(top, "__path__", [])] or [Path(getattr(top, "__file__", None) or "")]
    return word, [place for place in places if place.exists() and name and "site-packages" not in place.parts]


def _as_workload(found: Any, given: str, word: str) -> Workload | Chain:
    if isinstance(found, Chain):
        return found
    if not isinstance(found, Workload):
        raise UsageError(f"{given} is a {type(found).__name__}, expected a search.Workload.")
    return replace(found, word=word)
