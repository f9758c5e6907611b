"""Whether a node has the input files, and with which content."""

from __future__ import annotations

from collections.abc import Sequence

Stamp = tuple[int, str]  # bytes, hash of a sample of the content


def stamp_files(files: Sequence[str]) -> dict[str, Stamp | str]:
    """Return size and hash of a sample of the content of each ROOT file, or why it cannot be read."""
    from trainables.base.errors import DataError
    from trainables.data.files import stamp_root_file

    stamps: dict[str, Stamp | str] = {}
    for file in files:
        try:
            stamp = stamp_root_file(file)
            stamps[file] = (int(stamp["size"]), str(stamp["sample"]))
        except DataError as error:
            stamps[file] = str(error)
    return stamps
