"""Input files: the settings that name them, their expansion to single files, and the errors about single files."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base.errors import DataError
from trainables.data.split import VALIDATION_SHARE
from trainables.data.table_headers import SUFFIXES


class DataSettings(BaseModel):
    """The data settings that every workload has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[str, ...] = Field(
        (),
        description="files that the workload can read, globs, folders, .list files (one path a line), root:// URLs; "
        "none: the carried sample",
    )
    holdout: tuple[str, ...] = Field(
        (),
        description="files of the holdout, which no trial sees; none: a part of the data, chosen by event content",
    )
    validation_share: float = Field(
        VALIDATION_SHARE,
        gt=0,
        le=0.8,
        description="share of the data on which trials are scored, chosen by event content; a larger one makes the "
        "objective more precise. Each share has a cache of its own",
    )
    validation: tuple[str, ...] = Field(
        (), description="files of their own on which trials are scored; then no other part of the data is"
    )
    skip_bad_files: bool = Field(
        False,
        description="leave out files that are absent, broken, empty or without their tree, and list them; "
        "wrong content is never left out",
    )

    @model_validator(mode="after")
    def _validation_said_once(self) -> Self:
        if self.validation and self.validation_share != VALIDATION_SHARE:
            raise ValueError("--validation names all validation events: leave --validation-share out")
        return self

    def absolute(self) -> Self:
        """Copy the settings with absolute names, so that they are valid in any folder."""
        parts = ("data", "holdout", "validation")
        return self.model_copy(update={part: tuple(_absolute(name) for name in getattr(self, part)) for part in parts})


class UnreadableFile(DataError):  # noqa: N818 - reads as what it says about the file
    """A file that is absent, broken, empty, or without its tree; ``skip_bad_files`` leaves out such files alone."""


def unreadable(file: str, where: str, error: Exception) -> DataError:
    """Make the error for a file that a library cannot read.

    Parameters
    ----------
    file, where : str
        As in "FILE: cannot be read WHERE".
    error : Exception
        Of the library. A missing package is true of every such file, so that none may be left out.
    """
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, ImportError):
        return DataError(f"{file}: cannot be read {where}: a package is missing here ({reason}). Install it.")
    return UnreadableFile(f"{file}: cannot be read {where} ({type(error).__name__}: {reason}). Copy it again.")


def expand_files(names: Sequence[str], suffixes: Sequence[str] = SUFFIXES) -> tuple[str, ...]:
    """Expand names to single files and URLs: absolute, sorted, each once.

    Parameters
    ----------
    names : sequence of str
        Files, globs (``**`` too), folders (every file below them that ends with one of ``suffixes``), ``.list`` files
        (one name a line, relative to the list, ``#`` begins a comment), ``root://`` URLs.
    suffixes : sequence of str
        ``.root``, ``.parquet`` ...: of the files that the workload reads.

    Raises
    ------
    DataError
        A glob, a folder or a list holds nothing; a URL is of another kind, or xrootd is not installed.
        A file named by itself is checked only when it is opened.
    """
    found = {file for name in names for file in _expand_any(name, suffixes)}
    return tuple(sorted(found))


def _expand_any(name: str, suffixes: Sequence[str]) -> Iterator[str]:
    return _expand_list(name, suffixes) if _is_list(name) else _expand(name, Path(), suffixes)


def _is_list(name: str) -> bool:
    return name.endswith(".list") and "://" not in name


def _expand_list(name: str, suffixes: Sequence[str]) -> Iterator[str]:
    path = Path(name).expanduser().absolute()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this list of files ({error}). Expected one path a line.") from error
    entries = [line.partition("#")[0].strip() for line in lines]
    entries = [entry for entry in entries if entry]
    if not entries:
        raise DataError(f"{path}: the list names no file. Expected one path a line.")
    for entry in entries:
        yield from _expand(entry, path.parent, suffixes)


def _absolute(name: str) -> str:
    return name if "://" in name else str(Path(name).expanduser().absolute())


def _expand(name: str, base: Path, suffixes: Sequence[str]) -> Iterator[str]:
    if "://" in name:
        yield _checked_url(name)
        return
    path = (base / Path(name).expanduser()).absolute()
    if path.is_dir():
        yield from _below(path, suffixes)
    elif any(letter in name for letter in "*?[") and not path.exists():
        matches = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not matches:
            raise DataError(f"{name}: no file matches this pattern (looked for {path}). Check it with ls.")
        for match in matches:
            yield from _below(match, suffixes) if match.is_dir() else [str(match)]
    else:
        yield str(path)


def _below(folder: Path, suffixes: Sequence[str]) -> list[str]:
    files = [path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()]
    found = [str(path) for path in files if not _is_unfinished(path.relative_to(folder))]
    if not found:
        kinds = ", ".join(f"*{suffix}" for suffix in suffixes)
        raise DataError(
            f"{folder}: no {kinds} file in this folder or below it. Name another folder, or the files: '{folder}/*'."
        )
    return found


def _is_unfinished(path: Path) -> bool:
    """Return whether other readers of Parquet folders, too, leave a file out: its name, or a folder's, begins so."""
    return path.suffix == ".parquet" and any(part.startswith(("_", ".")) for part in path.parts)


def _checked_url(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme not in ("root", "roots"):
        raise DataError(f"{url}: expected a local path or a root:// URL, found {scheme}://. Copy the file first.")
    if importlib.util.find_spec("fsspec_xrootd") is None:
        raise DataError(f"{url}: reading root:// URLs needs xrootd. Run: pip install 'hep-search[xrootd]'")
    return url
