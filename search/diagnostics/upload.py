"""Whether the code that is sent with a Ray job is small enough."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from search.cluster.code_archive import LIMIT_BYTES, pack
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, wrong
from search.errors import UsageError
from trainables.runtime.disk_space import megabytes


def check(_context: DiagnosticContext) -> Iterator[Finding]:
    """Pack the code as search.submit does, without sending it."""
    what = "upload of a Ray job"
    with tempfile.TemporaryDirectory() as folder:
        try:
            archive = pack(Path(folder) / "code.zip")
        except UsageError as error:
            fix = "move these files out of the project's folders; data belongs on a file system that all nodes see"
            yield wrong(what, str(error), f"at most {LIMIT_BYTES // 2**20} MiB", fix)
            return
    yield fine(what, f"{megabytes(archive.bytes)} in {archive.files} files")
