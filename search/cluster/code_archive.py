"""The code of this project as an archive: the working directory of a Ray job, checked for size before it is sent."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import search
from search.errors import UsageError

LIMIT_BYTES = 100 * 2**20  # Ray takes no larger working directory
PACKAGES = ("search", "spaces", "trainables")
LOCK = "requirements.lock"
_DATA = ("*.root", "*.h5", "*.hdf5", "*.parquet", "*.npy", "*.npz", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.db")
_FOLDERS = ("results", "mlruns", "build", "dist", "node_modules")
_CACHES = ("__pycache__", "node_modules")
_SAMPLE = "sample"  # the folder of data that the project carries
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # so that the same files make the same archive, which Ray sends once


@dataclass(frozen=True)
class CodeArchive:
    """An archive that was written."""

    path: Path
    files: int
    bytes: int


def project_root() -> Path:
    """The folder that holds the packages."""
    return Path(search.__file__).resolve().parents[1]


def pack(archive: Path, include: Sequence[Path] = (), exclude: Sequence[str] = ()) -> CodeArchive:
    """Write the packages into an archive, without results, hidden files, and data other than the carried samples.

    Parameters
    ----------
    include : sequence of Path
        More files or folders, which are put at the top of the working directory. Of a folder everything is taken
        except hidden files, caches and virtual environments.
    exclude : sequence of str
        Patterns of names, or of paths inside the working directory.

    Raises
    ------
    UsageError
        The archive is larger than Ray takes, with its largest files; or a file to include is missing or not readable.
    """
    files = dict(_files(include, exclude))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for inside, file in sorted(files.items()):
            target.writestr(_entry(inside), _content(inside, file))
            _require_small(archive, files)
        target.writestr(_entry(f"hep_search-{_version()}.dist-info/METADATA"), _metadata())
    return CodeArchive(archive, len(files), archive.stat().st_size)


def locked_requirements() -> list[str]:
    """Read the requirements of requirements.lock, each with its exact version.

    Raises
    ------
    UsageError
        The project was installed without it.
    """
    file = project_root() / LOCK
    if not file.exists():
        raise UsageError(f"--pip: there is no {file}. Submit from a checkout of the project, or leave --pip out.")
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def _files(include: Sequence[Path], exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
    ours = [project_root() / name for name in PACKAGES]
    for root in [*ours, *(path.resolve() for path in include)]:
        if not root.exists():
            raise UsageError(f"--include {root}: there is no such file or folder.")
        for file in [root] if root.is_file() else _code_below(root) if root in ours else _below(root):
            inside = file.relative_to(root.parent).as_posix()
            if not any(fnmatch(inside, pattern) or fnmatch(file.name, pattern) for pattern in exclude):
                yield inside, file


def _code_below(root: Path) -> Iterator[Path]:
    """List the files of one of our packages, without results, and without data other than the samples."""
    for file in _below(root):
        folders = file.relative_to(root).parts[:-1]
        results = any(name in _FOLDERS or name.endswith(".egg-info") for name in folders)
        data = any(fnmatch(file.name, pattern) for pattern in _DATA) and file.parent.name != _SAMPLE
        if not results and not data:
            yield file


def _below(root: Path) -> Iterator[Path]:
    """List all files except hidden ones, which may hold passwords, caches and virtual environments."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(name for name in names if not _is_excluded(here / name))
        for name in files:
            if not name.startswith(".") and ((here / name).is_file() or (here / name).is_symlink()):
                yield here / name


def _is_excluded(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in _CACHES or (folder / "pyvenv.cfg").exists()


def _content(inside: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be read: {error.strerror}. Make it readable, or leave it out with --exclude '{inside}'."
        ) from error


def _entry(inside: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(inside, _FIXED_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _version() -> str:
    try:
        return version("hep-search")
    except PackageNotFoundError:
        return "0"


def _metadata() -> str:
    """Metadata from which code in the archive reads its version, as if it were installed."""
    return f"Metadata-Version: 2.1\nName: hep-search\nVersion: {_version()}\n"


def _require_small(archive: Path, files: dict[str, Path]) -> None:
    if archive.stat().st_size <= LIMIT_BYTES:
        return
    sizes = sorted(((file.stat().st_size, inside) for inside, file in files.items() if file.exists()), reverse=True)
    largest = "\n".join(f"  {size / 2**20:8.1f} MiB  {inside}" for size, inside in sizes[:5])
    raise UsageError(
        f"The working directory is larger than the {LIMIT_BYTES // 2**20} MiB that Ray takes. Its largest files are\n"
        f"{largest}\nLeave them out with --exclude PATTERN; data belongs on a file system that the cluster's nodes see."
    )
