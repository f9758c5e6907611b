"""What a check found: fine, a warning or wrong, in one line with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from search.config.redaction import without_passwords

Level = Literal["fine", "warning", "wrong"]
_SHOWN = 4  # names in a line


@dataclass(frozen=True)
class Finding:
    """One line. No password of a URL gets into it.

    Parameters
    ----------
    level : "fine", "warning" or "wrong"
    what : str
        What was looked at: "clock of node2".
    found, expected : str
        As far as there is something to say.
    mend : str
        A command, or a sentence where none helps.
    details : str
        For the file of --json only.
    """

    level: Level
    what: str
    found: str = ""
    expected: str = ""
    mend: str = ""
    details: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            clean = without_passwords(text)
            object.__setattr__(self, name, clean if name == "details" else " ".join(clean.split()).removesuffix("."))

    @property
    def told(self) -> str:
        """What was found, without the level and without the way to mend it."""
        if self.level == "fine":
            return f"{self.what}: {self.found}" if self.found else self.what
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.what}: found {self.found}{expected}"

    @property
    def line(self) -> str:
        """The whole of it, as it stands in a log."""
        return f"{self.level:<7}  {self.told}" + (f"; mend: {self.mend}" if self.mend else "")


def fine(what: str, found: str = "") -> Finding:
    return Finding("fine", what, found)


def warning(what: str, found: str, expected: str = "", mend: str = "") -> Finding:
    return Finding("warning", what, found, expected, mend)


def wrong(what: str, found: str, expected: str = "", mend: str = "") -> Finding:
    return Finding("wrong", what, found, expected, mend)


def names(several: Iterable[str]) -> str:
    """A few names, and how many more there are."""
    every = list(several)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def alike(told: Mapping[str, str]) -> dict[str, str]:
    """What is said of each node, turned round: what is said, and of which nodes."""
    groups: dict[str, list[str]] = {}
    for node, text in told.items():
        groups.setdefault(text, []).append(node)
    return {text: names(nodes) for text, nodes in groups.items()}
