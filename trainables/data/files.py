"""Input files: the settings that name them, their expansion to single files, and a stamp of each file's content."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base.errors import DataError
from trainables.data.root_header import check_whole
from trainables.data.split import VALIDATION_SHARE

SAMPLE_BYTES = 1 << 16  # of the head and of the tail of a file, and as much again spread between them


class DataSettings(BaseModel):
    """The data settings that every workload has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[str, ...] = Field(
        (),
        description="ROOT files, globs, folders, .list files (one path a line), root:// URLs; none: the carried sample",
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


def expand_files(names: Sequence[str]) -> tuple[str, ...]:
    """Expand names to single files and URLs: absolute, sorted, each once.

    Parameters
    ----------
    names : sequence of str
        Files, globs (``**`` too), folders (every ``*.root`` below them), ``.list`` files (one name a line,
        relative to the list, ``#`` begins a comment), ``root://`` URLs.

    Raises
    ------
    DataError
        A glob, a folder or a list holds nothing; a URL is of another kind, or xrootd is not installed.
        A file named by itself is checked only when it is opened.
    """
    found = {file for name in names for file in (_expand_list(name) if _is_list(name) else _expand(name, Path()))}
    return tuple(sorted(found))


def _is_list(name: str) -> bool:
    return name.endswith(".list") and "://" not in name


def _expand_list(name: str) -> Iterator[str]:
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
        yield from _expand(entry, path.parent)


def _absolute(name: str) -> str:
    return name if "://" in name else str(Path(name).expanduser().absolute())


def _expand(name: str, base: Path) -> Iterator[str]:
    if "://" in name:
        yield _checked_url(name)
        return
    path = (base / Path(name).expanduser()).absolute()
    if path.is_dir():
        yield from _below(path)
    elif any(letter in name for letter in "*?[") and not path.exists():
        matches = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not matches:
            raise DataError(f"{name}: no file matches this pattern (looked for {path}). Check it with ls.")
        for match in matches:
            yield from _below(match) if match.is_dir() else [str(match)]
    else:
        yield str(path)


def _below(folder: Path) -> list[str]:
    files = [str(path) for path in folder.rglob("*.root") if path.is_file()]
    if not files:
        raise DataError(f"{folder}: no *.root file in this folder or below it. Name another folder, or the files.")
    return files


def _checked_url(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme not in ("root", "roots"):
        raise DataError(f"{url}: expected a local path or a root:// URL, found {scheme}://. Copy the file first.")
    if importlib.util.find_spec("fsspec_xrootd") is None:
        raise DataError(f"{url}: reading root:// URLs needs xrootd. Run: pip install 'hep-search[xrootd]'")
    return url


def stamp_root_file(file: str) -> dict[str, int | str]:
    """Stamp one state of a ROOT file without reading the whole file.

    Parameters
    ----------
    file : str
        One of ``expand_files``.

    Returns
    -------
    dict
        ``size`` in bytes, ``modified`` (of the file system), ``sample``: hash of some of the bytes.

    Raises
    ------
    UnreadableFile
        Absent, not permitted, not a ROOT file, cut off, or never closed by the job that wrote it.
    """
    try:
        size, modified, stream = _open(file)
        with stream:
            if problem := check_whole(stream, size):
                raise UnreadableFile(f"{file}: {problem}")
            sample = _content_sample(stream, size)
    except OSError as error:
        raise UnreadableFile(f"{file}: cannot be read ({error.strerror or error}).{_similar(file)}") from error
    return {"size": size, "modified": modified, "sample": sample}


def _open(file: str) -> tuple[int, str, BinaryIO]:
    if "://" in file:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(file)
        info: dict[str, Any] = filesystem.info(path)
        return int(info["size"]), str(info.get("mtime", "")), filesystem.open(path, "rb")
    status = Path(file).stat()
    return status.st_size, str(status.st_mtime_ns), Path(file).open("rb")


def _content_sample(stream: BinaryIO, size: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if size <= 4 * SAMPLE_BYTES:
        places = [(0, size)]
    else:
        spread = [(size * part // 17, SAMPLE_BYTES // 16) for part in range(1, 17)]
        places = [(0, SAMPLE_BYTES), *spread, (size - SAMPLE_BYTES, SAMPLE_BYTES)]
    for start, length in places:
        stream.seek(start)
        digest.update(stream.read(length))
    return digest.hexdigest()


def _similar(file: str) -> str:
    path = Path(file)
    if "://" in file or path.exists() or not path.parent.is_dir():
        return ""
    nearest = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    return f" Nearest in that folder: {', '.join(nearest)}." if nearest else ""
