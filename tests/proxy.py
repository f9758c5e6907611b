"""An HTTP proxy between a client and a real server, which misbehaves when told."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class _Fault:
    """What the proxy does to every n-th request whose path contains ``path``."""

    kind: str
    every: int = 1
    path: str = ""
    status: int = 500
    retry_after: float = 0.0
    seconds: float = 0.0


_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}


class FaultyProxy:
    """An HTTP proxy in front of a server, whose behaviour may be changed at any moment by any thread.

    ``counts`` holds the requests that arrived by path (without the query), ``faults`` those that were spoiled,
    ``answered`` those that the server answered. Where the server itself is away the proxy answers 502, as others do.
    """

    def __init__(self, target: str, certificate: Path | None = None) -> None:
        """``certificate``: a file with a certificate and its key, for HTTPS."""
        self._certificate = certificate
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._fault: _Fault | None = None
        self._matched = 0  # requests that the present fault looked at
        self._changed = threading.Event()  # wakes those that hang
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = free_port()
        self.uri = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        self._open()

    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def pass_through(self) -> None:
        """Forward everything, from now on; what hangs goes on at once."""
        self._behave(None)

    def refuse(self) -> None:
        """Close the port and every open connection: a server that is not there."""
        self._behave(None)
        self._shut()

    def answer_error(self, status: int = 500, *, every: int = 1, path: str = "") -> None:
        """Answer with this status, without forwarding."""
        self._behave(_Fault("error", every, path, status=status))

    def answer_busy(self, retry_after: float = 1, *, every: int = 1, path: str = "") -> None:
        """Answer 429 with Retry-After, without forwarding."""
        self._behave(_Fault("error", every, path, status=429, retry_after=retry_after))

    def hang(self, seconds: float, *, every: int = 1, path: str = "") -> None:
        """Wait before forwarding. A client that gave up meanwhile has its request forwarded all the same, late."""
        self._behave(_Fault("hang", every, path, seconds=seconds))

    def drop_answers(self, *, every: int = 1, path: str = "") -> None:
        """Forward, then close the connection without an answer: the client cannot know whether it was written."""
        self._behave(_Fault("drop", every, path))

    def reset(self) -> None:
        """Forget what was counted."""
        with self._lock:
            for counter in (self.counts, self.faults, self.answered):
                counter.clear()

    def close(self) -> None:
        self._behave(None, serve=False)
        self._shut()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _behave(self, fault: _Fault | None, *, serve: bool = True) -> None:
        with self._lock:
            self._fault, self._matched = fault, 0
            self._changed.set()
            self._changed = threading.Event()
        if serve and self._server is None:
            self._open()

    def _open(self) -> None:
        handler = type("Handler", (_ProxyHandler,), {"proxy": self})
        self._server = _ProxyServer(("127.0.0.1", self.port), handler)
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="faulty-proxy").start()

    def _shut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _arrived(self, path: str) -> tuple[_Fault | None, threading.Event]:
        """Count a request; returns what to do to it, and what tells that this has changed."""
        with self._lock:
            self.counts[path] += 1
            fault = self._fault
            if fault is not None and fault.path in path:
                self._matched += 1
                if self._matched % fault.every == 0:
                    self.faults[path] += 1
                    return fault, self._changed
            return None, self._changed


class _ProxyServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what this proxy is for."""


class _ProxyHandler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for headers and body

    def setup(self) -> None:
        super().setup()
        with self.proxy._lock:
            self.proxy._connections.add(self.connection)

    def finish(self) -> None:
        with self.proxy._lock:
            self.proxy._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle_expect_100(self) -> bool:
        proceed = super().handle_expect_100()
        self.wfile.flush()  # the client waits for it before it sends anything
        return proceed

    def log_message(self, format: str, *args: Any) -> None:
        """pytest's output is not a log."""

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        body = self._read_body()
        fault, changed = self.proxy._arrived(path)
        if fault is not None and fault.kind == "error":
            extra = {"Retry-After": f"{fault.retry_after:g}"} if fault.retry_after else {}
            refusal = b"<html><head><title>refused by the front server</title></head></html>"  # not in MLflow's words
            failure = b'{"error_code": "INTERNAL_ERROR", "message": "the proxy spoils this"}'
            self._answer(fault.status, extra, failure if fault.status in (429, 500) else refusal)
            return
        if fault is not None and fault.kind == "hang":
            changed.wait(fault.seconds)
        try:
            status, headers, content = self._forward(body)
        except (OSError, http.client.HTTPException):
            self._answer(502, {}, b"the server is away")
            return
        with self.proxy._lock:
            self.proxy.answered[path] += 1
        if fault is not None and fault.kind == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.proxy._target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers |= {"Content-Length": str(len(body))} if body or self.command in ("POST", "PUT", "PATCH") else {}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        told = next((value for name, value in headers.items() if name.lower() == "content-length"), "0")
        length = told if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()
