"""What a few bytes of a file tell: its format, and whether a Parquet, HDF5 or .npz file is whole."""

from __future__ import annotations

import struct
import zipfile
from pathlib import PurePath
from typing import BinaryIO

FORMATS = {".root": "ROOT", ".parquet": "Parquet", ".h5": "HDF5", ".hdf5": "HDF5", ".npz": ".npz"}  # by suffix
SUFFIXES = tuple(FORMATS)
MARKS = {"ROOT": b"root", "Parquet": b"PAR1", "HDF5": b"\x89HDF\r\n\x1a\n", ".npz": b"PK"}  # first bytes
HDF5_LARGEST_USER_BLOCK = 1 << 20  # HDF5 begins at 0, 512, 1024, 2048 ...
COPY_AGAIN = "Copy it again; if that does not help, the job that wrote it was cut off."


def suffix_of(file: str) -> str:
    """Return the suffix of a file or URL in small letters: ``.root`` of ``root://host//x.root?token=y`` too."""
    return PurePath(file.partition("?")[0] if "://" in file else file).suffix.lower()


def not_of(expected: str, data: bytes, size: int) -> str:
    """Describe a file that is not of the expected format.

    Parameters
    ----------
    expected : str
        One of ``MARKS``.
    data : bytes
        The first ones of the file.
    size : int
        Of the file in bytes.
    """
    kind = next((name for name, mark in MARKS.items() if data.startswith(mark)), "").replace(".npz", "zip")
    found = f"{size} bytes that begin with {data[:8]!r}" if size else "an empty file"
    return (
        f"not {_article(expected)} file: expected it to begin with {MARKS[expected]!r}, "
        f"found {found}{f', {_article(kind)} file' if kind else ''}."
    )


def _article(kind: str) -> str:
    return f"{'an' if kind.startswith(('H', '.')) else 'a'} {kind}"


def check_parquet(stream: BinaryIO, size: int) -> str:
    """Return what is wrong with a Parquet file, from its ends; nothing: it is whole."""
    mark = MARKS["Parquet"]
    data = stream.read(8)
    if not data.startswith(mark):
        return not_of("Parquet", data, size)
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    if size < 12 or not end.endswith(mark):
        return f"truncated: expected a Parquet file to end with {mark!r}, found {end[-4:]!r}. {COPY_AGAIN}"
    footer = struct.unpack("<I", end[:4])[0]
    if footer > size - 12:
        return f"truncated: its footer has {footer} bytes, found {size} bytes in all. {COPY_AGAIN}"
    return ""


def check_npz(stream: BinaryIO, size: int) -> str:
    """Return what is wrong with a .npz archive, from its list of arrays; nothing: it is whole."""
    data = stream.read(8)
    if not data.startswith(MARKS[".npz"]):
        return not_of(".npz", data, size)
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, ValueError, struct.error, NotImplementedError):
        return f"truncated: an .npz file ends with the list of its arrays, and this one does not. {COPY_AGAIN}"
    if not any(name.endswith(".npy") for name in names):
        found = ", ".join(names[:3]) or "nothing"
        return f"not an .npz file: expected a zip archive of arrays (*.npy), found one that holds {found}."
    return ""


def check_hdf5(stream: BinaryIO, size: int) -> str:
    """Return what is wrong with an HDF5 file, from its superblock; nothing: it is whole."""
    first = stream.read(8)
    begin = 0
    while (data := first if begin == 0 else _at(stream, begin, 8)) != MARKS["HDF5"]:
        begin = max(512, 2 * begin)
        if begin > min(size, HDF5_LARGEST_USER_BLOCK):
            return not_of("HDF5", first, size)
    data = _at(stream, begin, 128)
    try:
        end, is_open = _hdf5_end(data)
    except (struct.error, IndexError, KeyError):
        return f"truncated: its superblock is cut off at {size} bytes. {COPY_AGAIN}"
    if size < end:
        return f"truncated: its superblock names {end} bytes, found {size}. {COPY_AGAIN}"
    if is_open:
        return (
            "not closed: it is still being written, or its job was cut off. Wait for the job, or run it again; "
            "h5clear -s FILE (of HDF5) opens what it holds."
        )
    return ""


def _at(stream: BinaryIO, place: int, length: int) -> bytes:
    stream.seek(place)
    return stream.read(length)


def _hdf5_end(data: bytes) -> tuple[int, bool]:
    """Return the end of a file by its superblock, and whether a job has it open for writing (newer files tell)."""
    version = data[8]
    if version >= 2:
        width, flags, addresses = data[9], data[11] if version > 2 else 0, 12
    else:
        width, flags, addresses = data[13], 0, 24 if version == 0 else 28
    place = addresses + 2 * width  # behind two other addresses
    kind = {4: "<I", 8: "<Q"}[width]
    return int(struct.unpack(kind, data[place : place + width])[0]), bool(flags & 1)
