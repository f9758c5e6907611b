"""File systems outside of this machine: whether an error will pass, and reading checkpoints from them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_NEVER = re.compile(
    "ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKeyId|INVALID_CLIENT_TOKEN|INVALID_SIGNATURE|"
    "SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|MISSING_AUTHENTICATION|EXPIRED_TOKEN|Forbidden|HTTP response 403|"
    "Unable to locate credentials|UNRECOGNIZED_CLIENT"
)


def refuses(error: BaseException) -> bool:
    """Decide whether a file system denies access: it would deny it again."""
    return isinstance(error, PermissionError) or bool(_NEVER.search(str(error)))


def is_away(error: BaseException, files: FileSystem) -> bool:
    """Decide whether a store does not answer for now, which this machine cannot fix."""
    if files.type_name == "local" or not isinstance(error, OSError) or refuses(error):
        return False
    return not isinstance(error, FileNotFoundError | FileExistsError) and "NO_SUCH_BUCKET" not in str(error)


def checkpoints_up_to(files: FileSystem, last: str) -> list[str]:
    """List this checkpoint of a trial and those before it, the newest first."""
    from pyarrow.fs import FileSelector  # here, because most commands reach no store

    folder, _, name = last.rstrip("/").rpartition("/")
    found = files.get_file_info(FileSelector(folder, allow_not_found=True))
    names = [info.path.rstrip("/").rpartition("/")[2] for info in found]
    earlier = [one for one in names if one.startswith("checkpoint_") and one < name]
    return [last, *(f"{folder}/{one}" for one in sorted(earlier, reverse=True))]


@contextmanager
def as_folder(files: FileSystem, path: str) -> Iterator[Path]:
    """Give a folder of that file system as one of this machine, for reading only."""
    if files.type_name == "local":
        yield Path(path)
        return
    from pyarrow.fs import copy_files

    with tempfile.TemporaryDirectory() as folder:
        copy_files(path, folder, source_filesystem=files)
        yield Path(folder)
