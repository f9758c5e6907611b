"""Stamp one state of an input file without reading all of it, and refuse a file that is not whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

from trainables.base.errors import DataError
from trainables.data.files import UnreadableFile
from trainables.data.root_header import check_whole
from trainables.data.table_headers import FORMATS, check_hdf5, check_npz, check_parquet, suffix_of

SAMPLE_BYTES = 1 << 16  # of the head and of the tail of a file, and as much again spread between them

Stamp = dict[str, int | str]
Check = Callable[[BinaryIO, int], str]  # (stream at its beginning, size) -> what is wrong, or nothing
CHECKS: dict[str, Check] = {"ROOT": check_whole, "Parquet": check_parquet, "HDF5": check_hdf5, ".npz": check_npz}


def stamp_file(file: str) -> Stamp:
    """Stamp one state of a file of any format; its suffix says which. Of an unknown one only the content is taken.

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
        Absent, not permitted, empty, not of the format of its suffix, cut off, or never closed.
    """
    return _stamp(file, CHECKS.get(FORMATS.get(suffix_of(file), ""), _check_any))


def stamp_root_file(file: str) -> Stamp:
    """Stamp one state of a ROOT file, whatever its suffix, as ``stamp_file`` does."""
    return _stamp(file, check_whole)


def stamp_all(
    files: Sequence[str], stamp: Callable[[str], Stamp], skip_bad_files: bool
) -> tuple[dict[str, Stamp], list[str]]:
    """Stamp the files that are whole; also return what is wrong with the others.

    Parameters
    ----------
    files : sequence of str
        Of ``expand_files``.
    stamp : callable
        ``stamp_file``, or the one of a ``FileKind``.
    skip_bad_files : bool
        Whether files may be left out.

    Raises
    ------
    DataError
        A file is not whole and none may be left out, or none is whole.
    """
    stamps: dict[str, Stamp] = {}
    problems: list[str] = []
    for file in files:
        try:
            stamps[file] = stamp(file)
        except UnreadableFile as problem:
            problems.append(str(problem))
    if problems and not skip_bad_files:
        more = f"\n... and {len(problems) - 10} more" if len(problems) > 10 else ""
        hint = f"\n{len(problems)} of {len(files)} files cannot be read; --skip-bad-files leaves them out."
        raise DataError("\n".join(problems[:10]) + more + (hint if len(files) > 1 else ""))
    if not stamps:
        raise nothing_left(problems)
    return stamps, problems


def nothing_left(problems: Sequence[str]) -> DataError:
    """Make the error for a sample of which no file can be read."""
    return DataError("no readable file is left:\n" + "\n".join(problems[:10]))


def _stamp(file: str, check: Check) -> Stamp:
    try:
        size, modified, stream = _open(file)
        with stream:
            if problem := check(stream, size):
                raise UnreadableFile(f"{file}: {problem}")
            sample = _content_sample(stream, size)
    except OSError as error:
        raise UnreadableFile(f"{file}: cannot be read ({error.strerror or error}).{_similar(file)}") from error
    return {"size": size, "modified": modified, "sample": sample}


def _check_any(_: BinaryIO, size: int) -> str:
    return "" if size else "an empty file."


def _open(file: str) -> tuple[int, str, BinaryIO]:
    if "://" in file:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(file)
        info: dict[str, Any] = filesystem.info(path)
        return int(info["size"]), str(info.get("mtime", "")), filesystem.open(path, "rb")
    status = Path(file).stat()
    return status.st_size, str(status.st_mtime_ns), Path(file).open("rb")


def open_bytes(file: str) -> BinaryIO:
    """Open a local file or a URL for reading. Raises OSError."""
    return _open(file)[2]


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
