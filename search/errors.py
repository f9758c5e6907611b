"""What may go wrong with a search, as a person is told it: one sentence, no traceback."""

from __future__ import annotations

import re
from urllib.parse import unquote

_STARTS = r"(?<![\w+.-])"
_SQL_AND_STORES = r"(?:\w*sql\w*|postgres|mariadb|oracle|s3[an]?|gc?s)(?:\+\w+)?"  # what follows a colon is no port
_NAMES = r"(?:gc?s|abfss?|az|wasbs?|x?roots?)"  # container@account, and people: no secrets
_TO_THE_LAST = r"[^@\n]*@(?:\S*@)?"
_END = r"[^\w\s@]*(?:\s|$)"  # of a word, perhaps with punctuation
_WITHOUT_PORT = re.compile(
    rf"({_STARTS}{_SQL_AND_STORES}://)(?!\[)[^:/\s]*:(?!\d{{0,5}}(?:[/?][^\s@]*)?{_END}){_TO_THE_LAST}", re.IGNORECASE
)
_WITH_PORT = re.compile(
    rf"(://|(?<![^\s'\"=(,])//)(?!\[)[^:/?#\s]*:(?!\d{{0,5}}(?:[/?#]|{_END})){_TO_THE_LAST}", re.IGNORECASE
)
_USER = re.compile(rf"({_STARTS}(?!{_NAMES}://)[\w+.-]+://)[^/?#\s]*@", re.IGNORECASE)
_WORD_OF_QUERY, _VALUE = re.compile(r"[?&#;]([^?&#;=\s]+)="), re.compile(r"[^&\s]*")
_SECRET = re.compile(
    r"passw|passphrase|(?<![a-z])(?:pass|pwd|key)$|secret|token|credential|signature|^sig$|(?:access|account|api)[_-]?key"
    "|odbc_connect",
    re.IGNORECASE,
)


class SearchError(Exception):
    """A fault that the user can mend; the message says what, where, and what to do."""

    exit_code = 2


class UsageError(SearchError):
    """The command's words do not fit together."""


class NameTakenError(SearchError):
    """A search of this name exists already."""


class TrackingError(SearchError):
    """The tracking server or database cannot be used."""


class ClusterError(SearchError):
    """The Ray cluster cannot be reached or lacks the resources of a single trial."""


def first_line(error: BaseException) -> str:
    """What an exception says, in one line and without passwords; its name where it says nothing."""
    lines = str(error).splitlines()
    return without_passwords(lines[0])[:300] if lines and lines[0] else type(error).__name__


def without_passwords(text: str) -> str:
    """The text with ``user:password@`` taken out of its URLs, and the values of secret words of their queries.

    A password may hold ``@``, ``/``, ``?`` and ``#`` as they are: all up to the last ``@`` of its word goes. Without a
    password an ``@`` behind the host is a part of the path and stays, as in ``root://host:1094//path/x@y.root``.
    """
    text = _without_secrets(text)
    for pattern in (_WITHOUT_PORT, _WITH_PORT, _USER):
        text = pattern.sub(r"\1", text)
    return text


def names_secret(name: str) -> bool:
    """Whether a word of a query, or a variable of an environment, is called like one that holds a secret."""
    name = unquote(name)
    return bool(_SECRET.search(name)) and not name.lower().endswith(("_path", "_file"))


def _without_secrets(text: str) -> str:
    shown, place = "", 0
    for word in _WORD_OF_QUERY.finditer(text):
        if word.start() < place or not names_secret(word[1]):
            continue
        end = _VALUE.match(text, word.end()).end()  # type: ignore[union-attr]  # it matches nothing, too
        mask = "***@***" if "@" in text[word.end() : end] else "***"  # the end of a password that stands before
        shown, place = shown + text[place : word.end()] + mask * (end > word.end()), end
    return shown + text[place:]
