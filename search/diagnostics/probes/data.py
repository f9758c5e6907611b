"""Whether input files are there, and the same."""

from __future__ import annotations

from collections.abc import Sequence

Stamp = tuple[int, str]  # bytes, hash of a sample of the content


def stamps(files: Sequence[str]) -> dict[str, Stamp | str]:
    """Size and hash of a sample of the content of each ROOT file, or why it cannot be read."""
    from trainables.base.errors import DataError
    from trainables.data.files import stamp_root_file

    told: dict[str, Stamp | str] = {}
    for file in files:
        try:
            stamp = stamp_root_file(file)
            told[file] = (int(stamp["size"]), str(stamp["sample"]))
        except DataError as problem:
            told[file] = str(problem)
    return told
