"""The memory-mapped columnar cache of all workloads: parts x columns, written once, verified when opened."""

# A cache is a folder, named by a hash of its key: manifest.json, and a raw file for each part and column.

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import filelock
import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.cache_writer import CacheWriter, Column

FORMAT = 1  # of the manifest; part of every key
BLOCK_BYTES = 1 << 24
STALE_S = 24 * 3600.0
MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


class _DamagedCache(Exception):  # noqa: N818 - never leaves this module
    """A cache folder that does not match its manifest."""


@dataclass(frozen=True)
class CacheSpec:
    """What a cache holds and what its content depends on."""

    name: str  # of the workload, part of the folder's name
    key: Mapping[str, Any]  # JSON values: everything that changes the content, reader version included
    columns: Mapping[str, Column]
    parts: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        text = json.dumps([FORMAT, self.key, list(self.parts), self._layout()], sort_keys=True)
        return f"{self.name}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"

    def _layout(self) -> dict[str, Any]:
        return {name: [column.dtype, list(column.row_shape)] for name, column in self.columns.items()}


@dataclass(frozen=True)
class Cache:
    """An open, verified cache."""

    folder: Path
    spec: CacheSpec
    manifest: Mapping[str, Any]

    @property
    def meta(self) -> dict[str, Any]:
        """JSON values that the builder stored beside the arrays."""
        return dict(self.manifest["meta"])

    def rows(self, part: str) -> int:
        return int(self.manifest["parts"][part]["rows"])

    def column(self, part: str, name: str) -> NDArray[Any]:
        """Map one column of one part into memory, read-only, shape (rows, *row_shape)."""
        column = self.spec.columns[name]
        shape = (self.rows(part), *column.row_shape)
        if shape[0] == 0:
            return np.empty(shape, column.dtype)  # an empty file cannot be mapped
        return np.memmap(self.folder / f"{part}.{name}", dtype=column.dtype, mode="r", shape=shape)

    def blocks(self, part: str, name: str) -> Iterator[NDArray[Any]]:
        """Yield the rows of one column in consecutive copies of some MB: for passes whose memory must stay flat."""
        column = self.spec.columns[name]
        rows = max(1, BLOCK_BYTES // column.row_bytes)
        with (self.folder / f"{part}.{name}").open("rb") as stream:
            while block := stream.read(rows * column.row_bytes):
                yield np.frombuffer(block, column.dtype).reshape(-1, *column.row_shape)

    def fingerprint(self, parts: tuple[str, ...]) -> str:
        """Hash the content of these parts: equal fingerprints, equal arrays."""
        text = json.dumps([[part, self.manifest["parts"][part]] for part in parts], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def open_or_build(cache_dir: Path, spec: CacheSpec, build: Callable[[CacheWriter], dict[str, Any]]) -> Cache:
    """Open the cache of ``spec`` where it exists and is whole, else build it, once for all processes that ask.

    Parameters
    ----------
    cache_dir : Path
        Folder of all caches; made where it is not there.
    spec : CacheSpec
    build : callable
        Announces how many rows it expects, appends chunks, returns JSON values to keep as ``Cache.meta``.
        Its errors pass through, and nothing of its work stays.

    Raises
    ------
    DataError
        The disk is full, or ``cache_dir`` cannot be written.
    """
    folder = cache_dir / spec.folder_name
    try:
        if (cache := _open(folder, spec)) is not None:
            return cache
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / f"{spec.folder_name}.lock"):
            if (cache := _open(folder, spec)) is not None:
                return cache  # built by another process while this one waited
            _remove_stale(cache_dir)
            return _build(folder, spec, build)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise DataError(f"{cache_dir}: cannot write the cache there ({error}). Choose another folder.") from error
        raise


def _build(folder: Path, spec: CacheSpec, build: Callable[[CacheWriter], dict[str, Any]]) -> Cache:
    temporary = _temporary(folder)
    temporary.mkdir()
    try:
        with CacheWriter(temporary, spec.columns, spec.parts) as writer:
            meta = build(writer)
            parts = writer.finish()
        manifest = {"format": FORMAT, "key": dict(spec.key), "parts": parts, "meta": meta}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        return _publish(temporary, folder, spec)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(folder: Path) -> Path:
    """Make a name that no other process uses and that identifies this one."""
    return folder.with_name(f"{folder.name}.tmp-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}")


def _publish(temporary: Path, folder: Path, spec: CacheSpec) -> Cache:
    """Rename into place. Correct without a lock too: the first to rename wins, the others use its cache."""
    for _ in range(3):
        with contextlib.suppress(OSError):  # another process was faster, or a damaged cache is there
            temporary.rename(folder)
        if (cache := _open(folder, spec)) is not None:
            return cache
        _set_aside(folder)
    raise DataError(f"{folder}: the new cache does not read back as it was written. Check the disk.")


def _set_aside(folder: Path) -> None:
    log.warning("%s: this damaged cache is replaced", folder)
    trash = _temporary(folder)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _open(folder: Path, spec: CacheSpec) -> Cache | None:
    """Open the cache in ``folder``; None where there is none that is whole."""
    if not folder.exists():
        return None
    try:
        return Cache(folder, spec, _verified_manifest(folder, spec))
    except (_DamagedCache, OSError, ValueError, KeyError, TypeError) as damage:
        log.info("%s: damaged cache (%s: %s)", folder, type(damage).__name__, damage)
        return None


def _verified_manifest(folder: Path, spec: CacheSpec) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT or not isinstance(manifest["meta"], dict):
        raise _DamagedCache("its manifest is of another format")
    for part in spec.parts:
        rows, checksums = manifest["parts"][part]["rows"], manifest["parts"][part]["crc32"]
        for name, column in spec.columns.items():
            path = folder / f"{part}.{name}"
            if path.stat().st_size != rows * column.row_bytes:
                raise _DamagedCache(f"{path.name} has {path.stat().st_size} bytes, not {rows * column.row_bytes}")
            if _crc32(path) != checksums[name]:
                raise _DamagedCache(f"{path.name} has another checksum than when it was written")
    return manifest


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock; where the file system has none, continue: the result is right, only the work is done twice."""
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("%s: another process is writing this cache; waiting", path)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        log.warning("%s: no lock available (%s); continuing without", path, error)
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _remove_stale(cache_dir: Path) -> None:
    """Remove temporary folders of processes that died here, or that wrote nothing for a day."""
    for folder in cache_dir.glob("*.tmp-*"):
        host, _, pid = folder.name.rpartition(".tmp-")[2].rpartition("-")[0].rpartition("-")
        with contextlib.suppress(OSError):  # its owner may finish it at this moment
            modified = max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
            dead = host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid))
            if dead or time.time() - modified > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True
