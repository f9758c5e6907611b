"""The software of a node: Python, packages, and the project itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def software(packages: Sequence[str], own: Sequence[str]) -> dict[str, Any]:
    """Return versions and locations of packages, and a fingerprint of the project's own code.

    Returns
    -------
    dict
        ``python``; ``packages``: name to ``version`` (None: not installed) and ``hidden_by`` (what would be imported
        instead, or empty); ``code``: fingerprint (None: not found); ``code_at``: its folder.
    """
    code, folder = _code(own)
    return {
        "python": platform.python_version(),
        "packages": {name: _package(name) for name in packages},
        "code": code,
        "code_at": folder,
    }


def _package(name: str) -> dict[str, str | None]:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return {"version": None, "hidden_by": ""}
    spec = importlib.util.find_spec(name)
    origins = [spec.origin] if spec and spec.origin else list(spec.submodule_search_locations or []) if spec else []
    installed = Path(str(distribution.locate_file(""))).resolve()
    hidden = "" if any(Path(origin).resolve().is_relative_to(installed) for origin in origins) else ", ".join(origins)
    return {"version": distribution.version, "hidden_by": hidden}


def _code(own: Sequence[str]) -> tuple[str | None, str]:
    digest, place = hashlib.blake2b(digest_size=8), ""
    for package in own:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.origin:
            return None, ""
        folder = Path(spec.origin).parent
        place = str(folder.parent)
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder.parent)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest(), place
