"""Small files in the storage, written and read by whoever is to share it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

PATIENCE_S = 3.0  # with a network file system that shows a new file late


def open_storage(storage: str) -> tuple[Any, str]:
    """File system and path of a folder or URL. Raises what pyarrow and fsspec raise."""
    import pyarrow
    from pyarrow import fs

    if "://" not in storage:
        return fs.LocalFileSystem(), storage
    try:
        return fs.FileSystem.from_uri(storage)  # type: ignore[no-any-return]
    except pyarrow.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    import fsspec

    inner, path = fsspec.core.url_to_fs(storage, use_listings_cache=False)
    system = fs.PyFileSystem(fs.FSSpecHandler(inner))
    system.create_dir(path, recursive=True)
    return system, path


def write_token(storage: str, name: str, text: str) -> None:
    """A new file with that text."""
    system, path = open_storage(storage)
    with system.open_output_stream(f"{path}/{name}") as stream:
        stream.write(text.encode())


def read_token(storage: str, name: str) -> str | None:
    """Its text; None where it is not there, even after a while."""
    system, path = open_storage(storage)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with system.open_input_stream(f"{path}/{name}") as stream:
                return str(stream.read().decode())
        except FileNotFoundError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)


def delete_token(storage: str, name: str) -> None:
    """The file is gone, if it was there."""
    system, path = open_storage(storage)
    with suppress(FileNotFoundError):
        system.delete_file(f"{path}/{name}")


def exchange(storage: str, name: str) -> dict[str, str | None]:
    """Read a file of another process, and write one for it to read.

    Returns
    -------
    dict
        ``read``: text of the first, None if it is not there; ``reply``: name and text of the second;
        ``wrong``: why one of both did not work.
    """
    reply = f"{name}-{uuid4().hex}"
    told: dict[str, str | None] = {"read": None, "reply": reply, "wrong": None}
    try:
        told["read"] = read_token(storage, name)
    except OSError as error:
        return told | {"wrong": f"cannot be read: {error}"}
    if told["read"] is None:
        return told
    try:
        write_token(storage, reply, reply)
    except OSError as error:
        return told | {"wrong": f"cannot be written: {error}"}
    return told
