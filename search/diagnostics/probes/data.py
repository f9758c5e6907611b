"""Whether a node has the input files, and with which content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Stamp = tuple[int, str]  # bytes, hash of a sample of the content


def stamp_files(files: Sequence[str], stamp_file: Callable[[str], Mapping[str, int | str]]) -> dict[str, Stamp | str]:
    """Return size and hash of a sample of the content of each file, or why it cannot be read.

    Parameters
    ----------
    files : sequence of str
    stamp_file : callable
        Of the workload's ``FileKind``.
    """
    from trainables.base.errors import DataError

    stamps: dict[str, Stamp | str] = {}
    for file in files:
        try:
            stamp = stamp_file(file)
            stamps[file] = (int(stamp["size"]), str(stamp["sample"]))
        except DataError as error:
            stamps[file] = str(error)
    return stamps
