"""Laws of the connection to a server: the doctor and a search use one client, and a failure is named by its cause."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
from collections.abc import Callable, Iterator
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
