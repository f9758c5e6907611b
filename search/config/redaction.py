"""Reduce an error to one line for users, and remove secrets from all text that is shown, logged or stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

# Parts of a URL, as regular expressions.
_SCHEME_START = r"(?<![\w+.-])"
_NO_PORT_SCHEME = r"(?:\w*sql\w*|postgres|mariadb|oracle|s3[an]?|gc?s)(?:\+\w+)?"  # the colon begins a password
_USERLESS_SCHEME = r"(?:gc?s|abfss?|az|wasbs?|x?roots?)"  # before @: a container, or a user without a password
_UP_TO_LAST_AT = r"[^@\n]*@(?:\S*@)?"
_WORD_END = r"[^\w\s@]*(?:\s|$)"  # perhaps after punctuation
_PASSWORD_WITHOUT_PORT = re.compile(
    rf"({_SCHEME_START}{_NO_PORT_SCHEME}://)(?!\[)[^:/\s]*:(?!\d{{0,5}}(?:[/?][^\s@]*)?{_WORD_END}){_UP_TO_LAST_AT}",
    re.IGNORECASE,
)
_PASSWORD_OR_PORT = re.compile(
    rf"(://|(?<![^\s'\"=(,])//)(?!\[)[^:/?#\s]*:(?!\d{{0,5}}(?:[/?#]|{_WORD_END})){_UP_TO_LAST_AT}", re.IGNORECASE
)
_USER = re.compile(rf"({_SCHEME_START}(?!{_USERLESS_SCHEME}://)[\w+.-]+://)[^/?#\s]*@", re.IGNORECASE)
_QUERY_NAME, _QUERY_VALUE = re.compile(r"[?&#;]([^?&#;=\s]+)="), re.compile(r"[^&\s]*")
_SECRET_NAME = re.compile(
    r"passw|passphrase|(?<![a-z])(?:pass|pwd|key)$|secret|token|credential|signature|^sig$|(?:access|account|api)[_-]?key"
    "|odbc_connect",
    re.IGNORECASE,
)

# The message of any other exception was written for people, and what led to it need not explain it.
_WRAPPING_LIBRARIES = {"requests", "urllib3", "urllib", "botocore", "boto3"}
_MLFLOW_WRAPPER = re.compile(r"API request to .* failed with (timeout )?exception")
_NOISE = re.compile(r"^\[SSL: \w+\] |^\w+Connection(Pool)?\(.*?\): | \(_ssl\.c:\d+\)| for url: \S+")
_LONGEST = 300  # characters of a line
_READABLE = {  # words of a client -> what they mean
    r"API request to endpoint was successful but the response body was not in a valid JSON format.*": (
        "a web page came where MLflow's answer was expected: a login in between, or not the server's own address"
    ),
    r"API request to endpoint (\S+) failed with error code (\d{3}) != 200\. Response body: '<.*": (
        r"\2 for \1, and a web page: nothing of MLflow is at this address"
    ),
    r"too many (\d{3}) error responses": r"\1, again and again",
    r"wrong version number": "it does not speak TLS (wrong version number): http:// where https:// is written?",
}
_PROXY_ERROR = "ProxyError"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without passwords; its class name where the message is empty.

    Of a failed request it is the message of the cause.
    """
    lines = _cause(error).splitlines()
    return _shortened(without_passwords(lines[0])) if lines and lines[0] else type(error).__name__


def _shortened(text: str) -> str:
    """Leave out the middle of a long text: its end often is the cause."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[5 - _LONGEST // 2 :]}"


def without_passwords(text: str) -> str:
    """Remove ``user:password@`` from the URLs in a text, and mask the values of secret parameters of their queries.

    A password may contain ``@``, ``/``, ``?`` and ``#`` unescaped, so everything up to the last ``@`` of its word is
    removed. Without a password an ``@`` behind the host is part of the path and stays, as in
    ``root://host:1094//path/x@y.root``.
    """
    text = _mask_query_secrets(text)
    for pattern in (_PASSWORD_WITHOUT_PORT, _PASSWORD_OR_PORT, _USER):
        text = pattern.sub(r"\1", text)
    return text


def names_secret(name: str) -> bool:
    """Return whether a query parameter or an environment variable of this name usually holds a secret."""
    name = unquote(name)
    return bool(_SECRET_NAME.search(name)) and not name.lower().endswith(("_path", "_file"))


def _mask_query_secrets(text: str) -> str:
    shown, place = "", 0
    for name in _QUERY_NAME.finditer(text):
        if name.start() < place or not names_secret(name[1]):
            continue
        end = _QUERY_VALUE.match(text, name.end()).end()  # type: ignore[union-attr]  # it matches nothing, too
        mask = "***@***" if "@" in text[name.end() : end] else "***"  # the end of a password that stands before
        shown, place = shown + text[place : name.end()] + mask * (end > name.end()), end
    return shown + text[place:]


def _cause(error: BaseException) -> str:
    """Return the message of the innermost exception of a failed request, or of the exception itself if it is none.

    ``certificate verify failed: self-signed certificate``, not the address and the retries around it.
    """
    chain = list(_chain(error))
    texts = (_NOISE.sub("", str(inner)) for inner in reversed(chain))
    text = next(filter(None, texts), type(error).__name__)
    for words, meaning in _READABLE.items():
        text = re.sub(words, meaning, text, count=1, flags=re.DOTALL)
    through_proxy = any(type(inner).__name__ == _PROXY_ERROR for inner in chain)
    return f"the proxy does not connect: {text}" if through_proxy else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and below each wrapper what it wraps."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        yield inner
        seen.add(id(inner))
        inner = _wrapped(inner) if _is_wrapper(inner) else None


def _is_wrapper(error: BaseException) -> bool:
    library = type(error).__module__.partition(".")[0]
    return library in _WRAPPING_LIBRARIES or (library == "mlflow" and bool(_MLFLOW_WRAPPER.match(str(error))))


def _wrapped(error: BaseException) -> BaseException | None:
    candidates = (
        getattr(error, "reason", None),  # of urllib and urllib3
        getattr(error, "original_error", None),  # of urllib3's ProxyError
        *reversed(error.args),
        error.__cause__,
        error.__context__,
    )
    return next((found for found in candidates if isinstance(found, BaseException)), None)
