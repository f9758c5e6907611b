"""What may go wrong with a search, as a person is told it: one sentence, no traceback."""

from __future__ import annotations

import re


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
    return without_passwords(lines[0][:300]) if lines and lines[0] else type(error).__name__


def without_passwords(text: str) -> str:
    """The text with ``user:password@`` taken out of its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
