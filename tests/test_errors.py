"""What people are told holds no password, whatever its form, and everything else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.redaction import first_line, names_secret, without_passwords

CHARACTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
PASSWORDS = st.text(CHARACTERS, min_size=1, max_size=20).map(lambda text: f"Hun{text}Ter2")
DIGITS_FIRST = st.text(CHARACTERS, max_size=20).map(lambda text: f"12/{text}Ter2")
USERS = st.sampled_from(["me", "", "me@cern.ch", "a.b-c", "ü"])
HOSTS = st.sampled_from(["h", "h:5432/db", "mlflow.example.org/a/b", "[::1]:5000", "127.0.0.1:5000/?x=1"])
DATABASES = st.sampled_from(["postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql", "POSTGRES", "s3", "sqlite"])
SCHEMES = DATABASES | st.sampled_from(["http", "https", "root", "sftp", "redis", "abfss", "gs"])
AROUND = st.sampled_from(["{}", "'{}'", "--tracking-uri={}", "say {} to me@cern.ch", "a\n{}\nb", "http://x:80/a,{}"])


@given(SCHEMES, USERS, PASSWORDS, HOSTS, AROUND)
def test_no_password_survives(scheme: str, user: str, password: str, host: str, around: str) -> None:
    shown = without_passwords(around.format(f"{scheme}://{user}:{password}@{host}"))
    assert shown == around.format(f"{scheme}://{host}")


@given(DATABASES, DIGITS_FIRST, HOSTS, AROUND)
def test_no_password_survives_that_looks_like_a_port(scheme: str, password: str, host: str, around: str) -> None:
    assert without_passwords(around.format(f"{scheme}://me:{password}@{host}")) == around.format(f"{scheme}://{host}")


@given(
    st.sampled_from(["postgresql://h:5432/db", "s3://bucket/a", "https://h", "mssql+pyodbc:///"]),
    st.sampled_from(
        ["password", "PASSWD", "pwd", "token", "access_key", "secret-key", "X-Amz-Signature", "sig", "pass%77ord",
         "sslpassword", "key", "AccountKey", "odbc_connect"]
    ),
    PASSWORDS.filter(lambda text: "&" not in text and "@" not in text),
    st.sampled_from(["", "&user=u"]),
)  # fmt: skip
def test_no_secret_of_a_query_survives(url: str, name: str, secret: str, more: str) -> None:
    assert without_passwords(f"at {url}?x=1&{name}={secret}{more} it") == f"at {url}?x=1&{name}=***{more} it"
    assert without_passwords(f"{url}?{name}={secret}") == f"{url}?{name}=***"


@given(SCHEMES, USERS, PASSWORDS, HOSTS, AROUND)
def test_what_is_clean_stays_so(scheme: str, user: str, password: str, host: str, around: str) -> None:
    shown = without_passwords(around.format(f"{scheme}://{user}:{password}@{host}?token={password}"))
    assert without_passwords(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:pa/ss@h/db", "postgresql://h/db"),
        ("postgresql://h/db?user=u&password=hunter2", "postgresql://h/db?user=u&password=***"),
        ("http://me:hun@ter2@h", "http://h"),
        ("http://me:hun@ter/2@h", "http://h"),
        ("http://me@cern.ch:hun/ter2@h", "http://h"),
        ("postgresql://u:hun ter2@h/db refused", "postgresql://h/db refused"),
        ("http://u:hun ter2@h", "http://h"),
        ("https://ghp_token@example.org/a", "https://example.org/a"),
        ("//me:hunter2@h/a", "//h/a"),
        ("https://h/?a=1#access_token=hunter2", "https://h/?a=1#access_token=***"),
        ("https://h/?token=hun@ter2&x=1", "https://h/?token=***@***&x=1"),
        ("postgresql://u:p@h/db?password=hun@ter2", "postgresql://***"),
        ("http://u:hun?password=ter2@h", "http://***"),
        ("s3://key:12/sec/ret@bucket/a", "s3://bucket/a"),
        ("http://a:80/x,http://u:p@h", "http://a:80/x,http://h"),
        ("postgresql://u:p@h:5432/db: no role me@cern.ch", "postgresql://h:5432/db: no role me@cern.ch"),
    ],
)
def test_a_password_is_found_where_clients_look_for_it(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b",
        "s3://bucket/a:b@c",
        "s3://bucket/a?scheme=https&endpoint_override=h:9000&region=eu",
        "root://host//path/x@y.root",
        "root://host:1094//path/x@y.root",
        "root://host//x@y.root",
        "root://me@host//x.root",
        "abfss://container@account.dfs.core.windows.net/results",
        "gs://anonymous@bucket/a",
        "sqlite:////data/a:b@c.db",
        "postgresql://h/db?application_name=me@cern",
        "git+https://example.org/a.git@v1",
        "http://[::1]:5000/a@b",
        "http://h:5000/#/experiments/1?orderByKey=metrics.loss&compareRunsMode=CHART",
        "http://h:5000 refused; ask me@cern.ch",
        "'http://h:5000': refused; ask me@cern.ch",
        "postgresql://h:5432/db refused; ask me@cern.ch",
        "http://h: refused; ask me@cern.ch",
        "mail me@cern.ch or //eos/a@b, 5 = 3 + 2?",
        "/data//me@here/[old]/x.root",
        "C://x",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert without_passwords(text) == text


def test_a_long_error_is_not_cut_within_its_password() -> None:
    told = first_line(ValueError("x" * 280 + " http://me:" + "hunter2" * 9 + "@host/a\nb"))
    assert told == "x" * 280 + " http://host/a"


def test_names_of_secrets_are_known() -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "DB_PASS"):
        assert names_secret(name)
    for name in ("AWS_ENDPOINT_URL", "SEARCH_STORAGE", "BYPASS", "region", "PGPASSFILE", "KEYBOARD", "orderByKey"):
        assert not names_secret(name)
