"""File systems that are not on this machine: whether an error will pass, and checkpoints read from there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

_NEVER = re.compile(
    "ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKeyId|INVALID_CLIENT_TOKEN|INVALID_SIGNATURE|"
    "SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|MISSING_AUTHENTICATION|EXPIRED_TOKEN|Forbidden|HTTP response 403|"
    "Unable to locate credentials|UNRECOGNIZED_CLIENT"
)


def refuses(error: BaseException) -> bool:
    """Whether a file system says no, which it will say again."""
    return isinstance(error, PermissionError) or bool(_NEVER.search(str(error)))


def is_away(error: BaseException, files: fs.FileSystem) -> bool:
    """Whether a store does not answer for now: nothing that this machine can mend."""
    if files.type_name == "local" or not isinstance(error, OSError) or refuses(error):
        return False
    return not isinstance(error, FileNotFoundError | FileExistsError) and "NO_SUCH_BUCKET" not in str(error)


def checkpoints_up_to(files: fs.FileSystem, last: str) -> list[str]:
    """This checkpoint of a trial, and those before it, the newest first."""
    folder, _, name = last.rstrip("/").rpartition("/")
    found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    names = [info.path.rstrip("/").rpartition("/")[2] for info in found]
    earlier = [one for one in names if one.startswith("checkpoint_") and one < name]
    return [last, *(f"{folder}/{one}" for one in sorted(earlier, reverse=True))]


@contextmanager
def as_folder(files: fs.FileSystem, path: str) -> Iterator[Path]:
    """A folder of that file system as one of this machine; only for reading."""
    if files.type_name == "local":
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        fs.copy_files(path, folder, source_filesystem=files)
        yield Path(folder)
