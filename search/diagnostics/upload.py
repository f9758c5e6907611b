"""Whether the code that a Ray job takes along is small enough."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from search.cluster.code_archive import LIMIT_BYTES, pack
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, fine, wrong
from search.errors import UsageError
from trainables.runtime.disk_space import megabytes


def check(_setup: Setup) -> Iterator[Finding]:
    """Pack it as search.submit would, and send it nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            package = pack(Path(folder) / "code.zip")
        except UsageError as error:
            mend = "move these files out of the project's folders; data belongs on a file system that all nodes see"
            yield wrong("upload of a Ray job", str(error), f"at most {LIMIT_BYTES // 2**20} MiB", mend)
            return
    yield fine("upload of a Ray job", f"{megabytes(package.bytes)} in {package.files} files")
