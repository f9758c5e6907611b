"""One result of a check: fine, a warning or wrong, in one line with the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from search.config.redaction import without_passwords

Level = Literal["fine", "warning", "wrong"]
_MOST_NAMES = 4  # in one line


@dataclass(frozen=True)
class Finding:
    """One result of a check. Passwords in URLs are removed.

    Parameters
    ----------
    level : "fine", "warning" or "wrong"
    what : str
        What was checked: "clock of node2".
    found, expected : str
        Empty where there is nothing to say.
    fix : str
        A command, or a sentence where no command helps.
    details : str
        For the file of --json only.
    """

    level: Level
    what: str
    found: str = ""
    expected: str = ""
    fix: str = ""
    details: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            clean = without_passwords(text)
            object.__setattr__(self, name, clean if name == "details" else " ".join(clean.split()).removesuffix("."))

    @property
    def description(self) -> str:
        """What was checked and found, without the level and the fix."""
        if self.level == "fine":
            return f"{self.what}: {self.found}" if self.found else self.what
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.what}: found {self.found}{expected}"

    @property
    def line(self) -> str:
        """The whole finding as one line of a log."""
        return f"{self.level:<7}  {self.description}" + (f"; fix: {self.fix}" if self.fix else "")


def fine(what: str, found: str = "") -> Finding:
    return Finding("fine", what, found)


def warning(what: str, found: str, expected: str = "", fix: str = "") -> Finding:
    return Finding("warning", what, found, expected, fix)


def wrong(what: str, found: str, expected: str = "", fix: str = "") -> Finding:
    return Finding("wrong", what, found, expected, fix)


def first_names(names: Iterable[str]) -> str:
    """List a few names, and count the rest."""
    every = list(names)
    more = f" and {len(every) - _MOST_NAMES} more" if len(every) > _MOST_NAMES else ""
    return ", ".join(every[:_MOST_NAMES]) + more


def nodes_by_text(texts: Mapping[str, str]) -> dict[str, str]:
    """Group nodes with the same text: from the text of each node to the nodes of each text."""
    groups: dict[str, list[str]] = {}
    for node, text in texts.items():
        groups.setdefault(text, []).append(node)
    return {text: first_names(nodes) for text, nodes in groups.items()}
