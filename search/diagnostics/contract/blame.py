"""Find the line of the user's own code in which an error arose, so that nobody needs to read a traceback."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import search
import trainables
from search.diagnostics.contract import given
from search.workload import Workload

_SEARCH, _TRAINABLES = Path(search.__file__).parent, Path(trainables.__file__).parent
_PLATFORM = [_SEARCH, *(_TRAINABLES / part for part in ("base", "data", "evaluation", "export", "runtime"))]
_STANDARD_LIBRARY = Path(traceback.__file__).parent
_INSTALLED = "site-packages"


def describe(error: BaseException, workload: Workload) -> str:
    """Say in one line what was raised, and in which line of the workload's own code."""
    said = " ".join(str(error).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    frame = innermost_own_frame(error, workload)
    return f"{text} ({frame.filename}:{frame.lineno}, in {frame.name})" if frame else text


def innermost_own_frame(error: BaseException, workload: Workload) -> traceback.FrameSummary | None:
    """Return the innermost frame of the workload's own code, or else of what is neither a library nor the platform."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(part) for part in _PLATFORM)
    ]
    homes = _homes(workload)
    own = [frame for frame in frames if any(_holds(home, Path(frame.filename).resolve()) for home in homes)]
    own = own or [frame for frame in frames if not _is_library(Path(frame.filename))]
    return own[-1] if own else None


def _homes(workload: Workload) -> list[Path]:
    """Return the files and folders that hold a workload's own code."""
    modules = {sys.modules.get(getattr(part, "__module__", "")) for part in given.code(workload)}
    files = [Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))]
    return [_home(file) for file in files if not any(file.is_relative_to(part) for part in _PLATFORM)]


def _home(file: Path) -> Path:
    """Return the outermost package of a module; of one outside of any package its folder, where helpers may lie."""
    home = file
    while (home.parent / "__init__.py").exists():
        home = home.parent
    return file.parent if home == file and file.parent.name != _INSTALLED else home


def _holds(home: Path, file: Path) -> bool:
    """Decide whether a file is in a home, and not in an environment that lies in that folder too."""
    return file.is_relative_to(home) and _INSTALLED not in file.relative_to(home).parts


def _is_library(file: Path) -> bool:
    return _INSTALLED in file.parts or file.is_relative_to(_STANDARD_LIBRARY) or not file.exists()
