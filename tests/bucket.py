"""A real S3 API over HTTP: moto's server, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from proxy import free_port
from pyarrow import fs
from server import _Process

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTSVERYSECRET1",
    "AWS_SECRET_ACCESS_KEY": "tests/very/secret/key/of/forty/letters/0",
}
USER = SECRETS | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}


class Bucket:
    """One bucket on a server of its own."""

    NAME = "searches"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = _Process(command, folder / "s3.log", env={**os.environ, **USER})
        self._process.wait_until(self._ask, 60)
        self._files = fs.S3FileSystem(
            access_key=USER["AWS_ACCESS_KEY_ID"],
            secret_key=USER["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.uri,
            region="us-east-1",
            allow_bucket_creation=True,
        )
        self._files.create_dir(self.NAME)

    def _ask(self) -> None:
        with urllib.request.urlopen(f"{self.uri}/moto-api/data.json", timeout=5) as answer:
            answer.read()

    def url(self, folder: str, port: int = 0) -> str:
        """As --storage takes it; through whoever listens at another port."""
        endpoint = quote(f"127.0.0.1:{port or self.port}", safe="")
        return f"s3://{self.NAME}/{folder}?scheme=http&region=us-east-1&endpoint_override={endpoint}"

    def objects(self, folder: str = "") -> dict[str, bytes]:
        """Everything in a folder of the bucket."""
        root = f"{self.NAME}/{folder}".rstrip("/")
        found = self._files.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        names = [info.path for info in found if info.type == fs.FileType.File]
        return {name.removeprefix(f"{root}/"): self._files.open_input_stream(name).read() for name in names}

    def require_keys(self) -> None:
        """From now on refuse keys that nobody was given: all of them."""
        request = urllib.request.Request(
            f"{self.uri}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()

    def close(self) -> None:
        self._process.end(signal.SIGKILL, self.port)


@contextlib.contextmanager
def running_bucket(folder: Path) -> Iterator[Bucket]:
    bucket = Bucket(folder)
    try:
        yield bucket
    finally:
        bucket.close()
