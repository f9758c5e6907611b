"""Say what a check of a workload is: one law, what usually breaks it and what mends that; and what came of a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from search.diagnostics.contract.subject import Subject

Examine = Callable[["Subject"], None]


class LawBroken(Exception):  # noqa: N818 - reads as what it says about the workload
    """A workload breaks a law; carries what was found.

    Parameters
    ----------
    found : str
        The evidence, in one sentence without its full stop.
    cause, remedy : str
        Empty: those of the check.
    """

    def __init__(self, found: str, cause: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.found, self.cause, self.remedy = found, cause, remedy


class NotGiven(Exception):  # noqa: N818 - it is no fault
    """A workload does not give the capability that a law is about; the message says which."""


@dataclass(frozen=True)
class Check:
    """One law of the contract. ``examine`` raises ``LawBroken`` or ``NotGiven``, or whatever the user's code raises."""

    law: str
    cause: str  # the usual one
    remedy: str
    examine: Examine
    after: tuple[str, ...]  # checks without which a failure of this one would say nothing
    slow: bool  # draws figures, or trains once for each hyperparameter

    @property
    def name(self) -> str:
        return self.examine.__name__.replace("_", "-")


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: Check
    result: Literal["passed", "failed", "skipped"]
    found: str = ""  # of a failed one the evidence, of a skipped one the reason
    cause: str = ""
    remedy: str = ""
    details: str = ""  # the traceback of an error in the user's code


def law(
    sentence: str, *, cause: str, remedy: str, after: tuple[str, ...] = (), slow: bool = False
) -> Callable[[Examine], Check]:
    """Make a check of the function below it. The name of the check is that of the function."""
    return lambda examine: Check(sentence, cause, remedy, examine, after, slow)
