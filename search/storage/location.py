"""Where searches live: a folder, or a URL of an object store with a folder on this machine in which to work."""

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

_OF_PYARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_NAMES_ARE_NO_USERS = ("gs", "gcs", "abfs", "abfss")  # anonymous@bucket, container@account


@dataclass(frozen=True)
class StoragePath:
    """A folder of some file system."""

    files: fs.FileSystem
    path: str
    url: str = ""  # for people; empty: it is on this machine

    def __str__(self) -> str:
        return self.url or self.path

    def at(self, *parts: str) -> StoragePath:
        """A folder in it."""
        base, mark, query = self.url.partition("?")
        url = "/".join((base.rstrip("/"), *parts)) + mark + query if self.url else ""
        return StoragePath(self.files, "/".join((self.path.rstrip("/"), *parts)), url)

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        try:
            with self.files.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file."""
        file = f"{self.path}/{name}"
        if self.files.type_name != "s3":  # whose folders are only parts of names
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

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        with suppress(FileNotFoundError):
            self.files.delete_file(f"{self.path}/{name}")

    def listed(self, *, deep: bool = False) -> dict[str, fs.FileInfo]:
        """What is in it by name, with ``deep`` also what is in its folders; empty where it is not there."""
        found = self.files.get_file_info(fs.FileSelector(self.path, recursive=deep, allow_not_found=True))
        start = len(self.path.rstrip("/")) + 1
        return {info.path[start:].rstrip("/"): info for info in found if info.path[start:].rstrip("/")}


def local(folder: Path) -> StoragePath:
    """A folder of this machine."""
    return StoragePath(fs.LocalFileSystem(), str(folder))


class Storage:
    """What ``--storage`` names.

    Everything that a resume needs is in ``place``. ``folder`` is the same place where that is a folder; of a URL it is
    a folder on this machine that may be lost.

    Raises
    ------
    UsageError
        A URL holds a password, or no file system is known for it.
    """

    def __init__(self, words: str | Path) -> None:
        words = str(words)
        if words.startswith("file://"):
            words = unquote(urlsplit(words).path)
        self.url = words if "://" in words else ""
        self._words = words
        if self.url:
            _refuse_secrets(self.url)

    @classmethod
    def of(cls, site: Site) -> Storage:
        """That of a site; MLflow's database cannot lie in an object store."""
        storage = cls(site.storage)
        if storage.url and site.server is None:
            raise UsageError(
                f"--storage {storage.url}: no database of MLflow can lie there. Name a server with --tracking-uri (or "
                "$MLFLOW_TRACKING_URI); mlflow/README.md says how to start one. Or journal, and deliver to one later."
            )
        return storage

    @cached_property
    def folder(self) -> Path:
        return _working_folder(self.url) if self.url else Path(self._words).expanduser().resolve()

    @cached_property
    def place(self) -> StoragePath:
        if not self.url:
            return local(self.folder)
        with explained(self.url):
            return StoragePath(*_opened(self.url), self.url)

    def names(self) -> list[str]:
        """Searches in a URL, the dead and unfinished ones included."""
        with explained(self.url):
            return sorted(self.place.at("searches").listed())

    def __str__(self) -> str:
        return self.url or str(self.folder)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Inside, what a file system raises becomes one sentence about the storage.

    Raises
    ------
    UsageError
    """
    try:
        yield
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UsageError(f"--storage {url}: {meaning(error)}.") from error


def meaning(error: BaseException) -> str:
    """What is wrong, and what is to be done."""
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
    """Without the key, the number of the request, and what curl says twice."""
    said = re.sub(r"^When .*?: (?=AWS Error)", "", said)
    return re.sub(r"( \(Request ID.*|; Details:.*)", "", said).strip().rstrip(".")


def _refuse_secrets(url: str) -> None:
    parts = urlsplit(url)
    user = "@" in parts.netloc and (parts.scheme not in _NAMES_ARE_NO_USERS or parts.password is not None)
    secrets = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if names_secret(name)]
    if user or secrets or without_passwords(url) != url:
        what = f"{secrets[0]}=..." if secrets else "a user or password"
        shown = urlsplit(without_passwords(url))._replace(query="").geturl()
        raise UsageError(
            f"--storage {shown}: the URL has {what} in it, which would stand in logs and records. Take it out; "
            "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), ~/.aws, or the "
            "machine's role."
        )


def _opened(url: str) -> tuple[fs.FileSystem, str]:
    parts = urlsplit(url)
    try:
        if parts.scheme not in _OF_PYARROW:
            return _of_fsspec(url, parts.scheme)
        if parts.scheme == "s3" and "allow_delayed_open" not in parts.query:  # one request for a small file, not three
            query = "&".join(filter(None, (parts.query, "allow_delayed_open=true")))
            url = urlunsplit(parts._replace(query=query))
        files, path = fs.FileSystem.from_uri(url)
    except (pyarrow.ArrowInvalid, ValueError) as error:
        raise UsageError(f"--storage {url}: no file system can be made of it ({first_line(error)}).") from error
    return files, path


def _of_fsspec(url: str, scheme: str) -> tuple[fs.FileSystem, str]:
    known: dict[str, Any] = known_implementations.get(scheme, {})
    module = str(known.get("class", "")).partition(".")[0]
    try:
        if module not in ("", "fsspec"):
            import_module(module)
        inner, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        if module == "fsspec":  # it names what its own file systems need
            raise UsageError(f"--storage {url}: {first_line(error)}: pip install it.") from error
        raise UsageError(
            f"--storage {url}: {scheme}:// needs a package that is not installed here: pip install {module}"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(inner)), path


def _working_folder(url: str) -> Path:
    """One for each URL, of this user alone.

    Raises
    ------
    UsageError
        It cannot be made, or others can enter it.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    name = hashlib.sha256(f"{url} {endpoint}".encode()).hexdigest()[:16]
    chosen = os.environ.get("SEARCH_WORK")
    base = Path(chosen).expanduser().resolve() if chosen else Path(tempfile.gettempdir()) / f"search-{os.getuid()}"
    try:
        if chosen:
            base.mkdir(parents=True, exist_ok=True)
        else:
            _private(base)
        return _private(base / name)
    except OSError as error:
        raise UsageError(
            f"--storage {url}: no folder to work in can be made at {base} ({error.strerror}). Name another with "
            "$SEARCH_WORK."
        ) from error


def _private(folder: Path) -> Path:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"{folder}: others can enter this folder, in which a search works whose --storage is a URL. Delete it, or "
            "name another with $SEARCH_WORK."
        )
    return folder
