"""Exceptions of a search; the message of each is one sentence for its user, and commands print no traceback."""


class SearchError(Exception):
    """A fault that the user can fix; the message says what is wrong, where, and what to do."""

    exit_code = 2


class UsageError(SearchError):
    """The flags of a command contradict each other, or name something that does not exist."""


class NameTakenError(SearchError):
    """A search of this name exists already."""


class TrackingError(SearchError):
    """The tracking server or database cannot be used."""


class ClusterError(SearchError):
    """The Ray cluster cannot be reached or lacks the resources of a single trial."""
