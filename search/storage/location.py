"""Locate searches: in a folder, or in the URL of an object store with a working folder on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import fsspec
import pyarrow
from fsspec.registry import known_implementations
from pyarrow import fs

from search.config.redaction import first_line, names_secret, without_passwords
from search.config.settings import Site
from search.errors import UsageError
from trainables.runtime.object_store import as_folder, refuses

_PYARROW_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_USERLESS_SCHEMES = ("gs", "gcs", "abfs", "abfss")  # anonymous@bucket, container@account


@dataclass(frozen=True)
class StoragePath:
    """A folder of a local or remote file system."""

    files: fs.FileSystem
    path: str
    url: str = ""  # shown to users; empty: the folder is on this machine

    def __str__(self) -> str:
        return self.url or self.path

    def joinpath(self, *parts: str) -> StoragePath:
        """Return a folder inside this one; the URL keeps its query."""
        base, mark, query = self.url.partition("?")
        url = "/".join((base.rstrip("/"), *parts)) + mark + query if self.url else ""
        return StoragePath(self.files, "/".join((self.path.rstrip("/"), *parts)), url)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        try:
            with self.files.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file."""
        file = f"{self.path}/{name}"
        if self.files.type_name != "s3":  # there, folders are only parts of names
            self.files.create_dir(file.rpartition("/")[0], recursive=True)
        with self.files.open_output_stream(file) as stream:
            stream.write(data)

    @property
    def is_local(self) -> bool:
        return bool(self.files.type_name == "local")

    @contextmanager
    def as_folder(self) -> Iterator[Path]:
        """Yield a folder of this machine with the same files, for reading; a remote one is copied for that long."""
        with as_folder(self.files, self.path) as folder:
            yield folder

    def holds(self, name: str) -> bool:
        """Return whether there is such a file."""
        return bool(self.files.get_file_info(f"{self.path}/{name}").type == fs.FileType.File)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            self.files.delete_file(f"{self.path}/{name}")

    def entries(self, *, recursive: bool = False) -> dict[str, fs.FileInfo]:
        """Return the files and folders in this folder, by relative name; empty if it does not exist."""
        found = self.files.get_file_info(fs.FileSelector(self.path, recursive=recursive, allow_not_found=True))
        start = len(self.path.rstrip("/")) + 1
        return {info.path[start:].rstrip("/"): info for info in found if info.path[start:].rstrip("/")}


def local_path(folder: Path) -> StoragePath:
    return StoragePath(fs.LocalFileSystem(), str(folder))


class Storage:
    """The folder or URL that ``--storage`` names.

    ``root`` holds everything that a resume needs. ``folder`` is the same folder, or, of a URL, a working folder on this
    machine that may be lost.

    Raises
    ------
    UsageError
        The URL contains a password, or no file system is available for it.
    """

    def __init__(self, location: str | Path) -> None:
        location = str(location)
        if location.startswith("file://"):
            location = unquote(urlsplit(location).path)
        self.url = location if "://" in location else ""
        self._location = location
        if self.url:
            _refuse_secrets(self.url)

    @classmethod
    def of(cls, site: Site) -> Storage:
        """Return the storage of a site.

        Raises
        ------
        UsageError
            The site names no MLflow server, and MLflow's database cannot be in an object store.
        """
        storage = cls(site.storage)
        if storage.url and site.server is None:
            raise UsageError(
                f"--storage {storage.url}: no database of MLflow can lie there. Name a server with --tracking-uri (or "
                "$MLFLOW_TRACKING_URI); mlflow/README.md says how to start one. Or journal, and export to one later."
            )
        return storage

    @cached_property
    def folder(self) -> Path:
        return _working_folder(self.url) if self.url else Path(self._location).expanduser().resolve()

    @cached_property
    def root(self) -> StoragePath:
        if not self.url:
            return local_path(self.folder)
        with readable_errors(self.url):
            return StoragePath(*_open_file_system(self.url), self.url)

    def names(self) -> list[str]:
        """Return the names of the searches in a URL, unfinished ones included."""
        with readable_errors(self.url):
            return sorted(self.root.joinpath("searches").entries())

    def __str__(self) -> str:
        return self.url or str(self.folder)


@contextmanager
def readable_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of file systems inside into one sentence about the storage.

    Raises
    ------
    UsageError
        The storage cannot be used.
    """
    try:
        yield
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UsageError(f"--storage {url}: {explanation(error)}.") from error


def explanation(error: BaseException) -> str:
    """Say what is wrong with a storage, and what to do."""
    text, said = str(error), first_line(error)
    if "NO_SUCH_BUCKET" in text or "NoSuchBucket" in text or re.search(r"[Bb]ucket '[^']*' not found", text):
        return "there is no such bucket. Make it, or correct its name"
    if refuses(error):
        return (
            f"this user may not write there ({_short(said)}). Credentials come from the usual places: for S3 "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role"
        )
    return f"it cannot be used ({_short(said)}). Correct its address, or bring the store back"


def _short(said: str) -> str:
    """Remove the object's key, the id of the request, and what curl repeats."""
    said = re.sub(r"^When .*?: (?=AWS Error)", "", said)
    return re.sub(r"( \(Request ID.*|; Details:.*)", "", said).strip().rstrip(".")


def _refuse_secrets(url: str) -> None:
    parts = urlsplit(url)
    user = "@" in parts.netloc and (parts.scheme not in _USERLESS_SCHEMES or parts.password is not None)
    secrets = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if names_secret(name)]
    if user or secrets or without_passwords(url) != url:
        what = f"{secrets[0]}=..." if secrets else "a user or password"
        shown = urlsplit(without_passwords(url))._replace(query="").geturl()
        raise UsageError(
            f"--storage {shown}: the URL has {what} in it, which would stand in logs and records. Take it out; "
            "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), ~/.aws, or the "
            "machine's role."
        )


def _open_file_system(url: str) -> tuple[fs.FileSystem, str]:
    parts = urlsplit(url)
    try:
        if parts.scheme not in _PYARROW_SCHEMES:
            return _open_with_fsspec(url, parts.scheme)
        if parts.scheme == "s3" and "allow_delayed_open" not in parts.query:  # one request for a small file, not three
            query = "&".join(filter(None, (parts.query, "allow_delayed_open=true")))
            url = urlunsplit(parts._replace(query=query))
        files, path = fs.FileSystem.from_uri(url)
    except (pyarrow.ArrowInvalid, ValueError) as error:
        raise UsageError(f"--storage {url}: no file system can be made of it ({first_line(error)}).") from error
    return files, path


def _open_with_fsspec(url: str, scheme: str) -> tuple[fs.FileSystem, str]:
    known: dict[str, Any] = known_implementations.get(scheme, {})
    module = str(known.get("class", "")).partition(".")[0]
    try:
        if module not in ("", "fsspec"):
            import_module(module)
        inner, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        if module == "fsspec":  # its message names the missing package
            raise UsageError(f"--storage {url}: {first_line(error)}: pip install it.") from error
        raise UsageError(
            f"--storage {url}: {scheme}:// needs a package that is not installed here: pip install {module}"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(inner)), path


def _working_folder(url: str) -> Path:
    """Create the working folder of a URL, which only this user can enter.

    Raises
    ------
    UsageError
        The folder cannot be created, or other users can enter it.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    name = hashlib.sha256(f"{url} {endpoint}".encode()).hexdigest()[:16]
    chosen = os.environ.get("SEARCH_WORK")
    base = Path(chosen).expanduser().resolve() if chosen else Path(tempfile.gettempdir()) / f"search-{os.getuid()}"
    try:
        if chosen:
            base.mkdir(parents=True, exist_ok=True)
        else:
            _create_private(base)
        return _create_private(base / name)
    except OSError as error:
        raise UsageError(
            f"--storage {url}: no folder to work in can be made at {base} ({error.strerror}). Name another with "
            "$SEARCH_WORK."
        ) from error


def _create_private(folder: Path) -> Path:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"{folder}: others can enter this folder, in which a search works whose --storage is a URL. Delete it, or "
            "name another with $SEARCH_WORK."
        )
    return folder
