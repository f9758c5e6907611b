"""The header of a ROOT file: whether the file is whole, and closed by the job that wrote it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from trainables.data.table_headers import not_of

HEADER_BYTES = 64
BIG_FILE = 1_000_000  # from this version on positions have 8 bytes
FREE_STEP, LONGEST_FREE = 1_000_000_000, 2_000_000_000
RECOVERY = "hadd -f recovered.root FILE (of ROOT) keeps what can be recovered"
NOT_CLOSED = (
    "it is still being written, or its job was cut off, and events after its last save are lost. Run the job again; or "
    f"{RECOVERY}."
)


@dataclass(frozen=True)
class Header:
    """What a ROOT file says about itself."""

    begin: int  # of the first record
    end: int  # of the last record
    free: int  # place of the list of free segments: the last record that a job writes

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Parse the first bytes of a file that begins with ``root``."""
        version, begin = struct.unpack(">ii", data[4:12])
        end, free = struct.unpack(">qq" if version >= BIG_FILE else ">ii", data[12 : 28 if version >= BIG_FILE else 20])
        return cls(begin, end, free)


def check_whole(stream: BinaryIO, size: int) -> str:
    """Return what is wrong with a file, from its header and its size; nothing: it is whole.

    Parameters
    ----------
    stream
        At the beginning of the file.
    size : int
        Of the file in bytes.
    """
    data = stream.read(HEADER_BYTES)
    if data[:4] != b"root" or len(data) < 28:
        return not_of("ROOT", data, size)
    header = Header.parse(data)
    if size < header.end:
        return (
            f"truncated: its header names {header.end} bytes, found {size}. "
            "Copy it again; if that does not help, the job that wrote it was cut off."
        )
    if header.free <= header.begin:  # ROOT, too, says then: probably not closed
        return f"not closed: its header has no list of free segments: {NOT_CLOSED}"
    if size > header.end and not _is_free(stream, header.end, size):
        return f"not closed: its header names {header.end} bytes, found {size}: {NOT_CLOSED}"
    return ""


def _is_free(stream: BinaryIO, end: int, size: int) -> bool:
    """Return whether a deleted record begins at ``end``: ROOT may leave one behind the last record of a closed file.

    A record begins with its length. That of a deleted one is negative, and this one belongs to the free space that
    reaches to a multiple of 1e9.
    """
    stream.seek(end)
    data = stream.read(4)
    free = -struct.unpack(">i", data)[0] if len(data) == 4 else 0
    reaches = (end + free - 1) % FREE_STEP == 0 or free == LONGEST_FREE
    return bool(free >= size - end and reaches)
