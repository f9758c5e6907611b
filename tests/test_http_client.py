"""Laws of the connection to a server: the doctor and a search use one client, and a failure is named by its cause."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mlflow import MlflowClient
from proxy import FaultyProxy, free_port
from server import MlflowServer

from search.config.redaction import first_line
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding
from search.diagnostics.runner import findings_of
from search.errors import TrackingError
from search.tracking.client import open_experiment

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "no_proxy", "NO_PROXY")
CERTIFICATES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS", "REQUESTS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *CERTIFICATES, "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return file


@pytest.fixture(scope="module")
def secure(server: MlflowServer, certificate: Path) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.uri, certificate) as front:
        yield front


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], list[Finding]]:
    def ask(uri: str) -> list[Finding]:
        context = DiagnosticContext(None, uri, str(tmp_path), (), None, 1, None, 60.0)
        return list(findings_of("tracking", context))

    return ask


def failure(uri: str) -> str:
    """What MLflow's client raises, as users read it."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  # of several libraries
        MlflowClient(uri).get_experiment_by_name("tiny")
    return first_line(raised.value)


# ---------------------------------------------------------------- causes


def test_a_request_that_fails_is_reported_by_its_innermost_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://me:hush@127.0.0.1:{free_port()}"
    assert failure(uri) == "[Errno 111] Connection refused"
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert failure(uri) == "the proxy does not connect: [Errno 111] Connection refused"


def test_an_exception_that_explains_itself_keeps_its_own_words() -> None:
    def explain() -> None:
        try:
            raise KeyError("x")
        except KeyError as error:
            raise ValueError("expected y, found x") from error

    with pytest.raises(ValueError) as raised:  # noqa: PT011  # its words are what is tested
        explain()
    assert first_line(raised.value) == "expected y, found x"


def test_a_long_message_keeps_its_end() -> None:
    told = first_line(ValueError(f"{'/long' * 100} is not readable: quota exceeded"))
    assert len(told) <= 300
    assert told.startswith("/long")
    assert told.endswith("quota exceeded")


class Answers:
    """A server that answers every request alike: status, headers, body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value.format(path=self.path))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Answers:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


PAGE = b"<!doctype html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("answers", "meaning"),
    [
        (Answers(200, {"Content-Type": "text/html"}, PAGE), "a web page came where MLflow's answer was expected"),
        (Answers(404, {"Content-Type": "text/html"}, PAGE), "nothing of MLflow is at this address"),
        (Answers(502, {"Content-Type": "text/html"}, PAGE), "502, again and again"),
    ],
)
def test_a_server_that_is_not_mlflow_is_named_as_such_by_the_doctor_and_by_a_search(
    found: Callable[[str], list[Finding]], tmp_path: Path, answers: Answers, meaning: str
) -> None:
    with answers:
        (told,) = found(answers.uri)
        assert (told.level, meaning in told.found) == ("wrong", True), told
        assert "500" not in told.found
        with pytest.raises(TrackingError, match=meaning):
            open_experiment(answers.uri, tmp_path, "tiny")


@pytest.mark.slow
def test_a_server_that_sends_its_clients_elsewhere_is_reported_with_the_new_address(
    server: MlflowServer, found: Callable[[str], list[Finding]], tmp_path: Path
) -> None:
    """As from http to https: what is read arrives, and what is written does not."""
    with Answers(301, {"Location": f"{server.uri}{{path}}"}) as front:
        (told,) = found(front.uri)
        assert (told.level, f"redirects to {server.uri}, " in told.found) == ("wrong", True)
        with pytest.raises(TrackingError, match=f"it redirects to {server.uri}: name that address"):
            open_experiment(front.uri, tmp_path, "redirected")
    assert {finding.level for finding in found(server.uri)} == {"fine"}


def test_https_where_nobody_speaks_it_is_named(found: Callable[[str], list[Finding]], tmp_path: Path) -> None:
    with Answers(200, {}) as plain:
        uri = plain.uri.replace("http:", "https:")
        (told,) = found(uri)
        assert "http:// where https:// is written?" in told.found
        with pytest.raises(TrackingError, match="http:// where https:// is written"):
            open_experiment(uri, tmp_path, "tiny")


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "localhost:5000", "mlflow.example.org", "me:hush@host:5000"])
def test_an_address_without_a_scheme_is_no_folder(tmp_path: Path, address: str) -> None:
    with pytest.raises(TrackingError, match=r"Did you mean http://(?!.*hush)"):
        open_experiment(address, tmp_path, "tiny")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- certificates and proxies


@pytest.mark.slow
def test_a_certificate_that_is_not_trusted_is_named_by_the_doctor_and_by_a_search(
    secure: FaultyProxy, found: Callable[[str], list[Finding]], tmp_path: Path
) -> None:
    (told,) = found(secure.uri)
    assert told.level == "wrong"
    assert told.found == "no answer (certificate verify failed: self-signed certificate)"
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in told.fix
    with pytest.raises(TrackingError, match=r"cannot be used: certificate verify failed: self-signed certificate\n"):
        open_experiment(secure.uri, tmp_path, "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("variable", CERTIFICATES)
def test_the_doctor_trusts_whom_a_search_trusts(
    secure: FaultyProxy,
    found: Callable[[str], list[Finding]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, "true" if variable.endswith("TLS") else str(certificate))
    with pytest.warns() if variable.endswith("TLS") else contextlib.nullcontext():
        assert {finding.level for finding in found(secure.uri)} == {"fine"}
        MlflowClient(secure.uri).get_experiment_by_name("tiny")


@pytest.mark.slow
def test_a_proxy_that_stands_between_is_named_until_no_proxy_names_the_server(
    server: MlflowServer, found: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:hush@127.0.0.1:{free_port()}")
    (told,) = found(server.uri)
    assert told.level == "wrong"
    assert "through the proxy http://127.0.0.1:" in told.found
    assert "Connection refused" in told.found
    assert told.fix.startswith("export no_proxy=$no_proxy,127.0.0.1")
    for exception in ("localhost,127.0.0.1", "127.0.0.0/8"):  # as requests reads it
        monkeypatch.setenv("no_proxy", exception)
        assert {finding.level for finding in found(server.uri)} == {"fine"}, exception
