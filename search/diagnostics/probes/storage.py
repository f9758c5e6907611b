"""Small files in the storage, which the driver and the nodes write for each other and read."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

_VISIBLE_WITHIN_S = 3.0  # a network file system may show a new file late


def open_storage(storage: str) -> tuple[Any, str]:
    """Return file system and path of a folder or URL. Raises what pyarrow and fsspec raise."""
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
    """Write a new file."""
    system, path = open_storage(storage)
    with system.open_output_stream(f"{path}/{name}") as stream:
        stream.write(text.encode())


def read_token(storage: str, name: str) -> str | None:
    """Return the text of a file; None if the file is not there within some seconds."""
    system, path = open_storage(storage)
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while True:
        try:
            with system.open_input_stream(f"{path}/{name}") as stream:
                return str(stream.read().decode())
        except FileNotFoundError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)


def delete_token(storage: str, name: str) -> None:
    """Delete a file if it is there."""
    system, path = open_storage(storage)
    with suppress(FileNotFoundError):
        system.delete_file(f"{path}/{name}")


def exchange_tokens(storage: str, name: str) -> dict[str, str | None]:
    """Read a file of the driver, and write another one for the driver to read.

    Returns
    -------
    dict
        ``read``: text of the driver's file, None if it is not there; ``reply``: name and text of the other one;
        ``wrong``: why reading or writing failed.
    """
    reply = f"{name}-{uuid4().hex}"
    result: dict[str, str | None] = {"read": None, "reply": reply, "wrong": None}
    try:
        result["read"] = read_token(storage, name)
    except OSError as error:
        return result | {"wrong": f"cannot be read: {error}"}
    if result["read"] is None:
        return result
    try:
        write_token(storage, reply, reply)
    except OSError as error:
        return result | {"wrong": f"cannot be written: {error}"}
    return result
