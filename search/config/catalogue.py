"""Find a workload by its word: a carried one by its name, FILE.py:ATTRIBUTE, MODULE:ATTRIBUTE, or one of a package."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.workload import Chain, Workload
from search.workloads import CHAINS, WORKLOADS
from trainables.base.errors import DataError
from trainables.runtime.imports import existing, file_of, import_word, is_from_file, modules_to_send

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
        return _as_workload(_imported(entry.value), word, word)
    if ":" in word:
        return _as_workload(_imported(word), word, absolute_word(word))
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
                if module == "__main__" or is_from_file(module):
                    return f"{Path(file).resolve()}:{attribute}" if file else workload.name
                return f"{module}:{attribute}"
    return workload.name


def absolute_word(word: str) -> str:
    """Return a word that is valid in any folder of this machine."""
    file = file_of(word)
    return word if file is None else f"{existing(file).resolve()}:{word.rpartition(':')[2]}"


def _offered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _imported(reference: str) -> Any:
    try:
        return import_word(reference)
    except DataError as error:
        raise UsageError(str(error)) from error


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
