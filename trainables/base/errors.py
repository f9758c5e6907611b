"""The two reasons why a training run cannot continue: its data are bad, or it has diverged."""

from __future__ import annotations

from collections.abc import Mapping


class DataError(Exception):
    """Bad input, found where it enters: names the file, the entry, what was expected, what is there, what to do."""


class TrainingDiverged(Exception):  # noqa: N818 - it is an outcome of a trial, not a fault of the program
    """A run that cannot recover; it carries the evidence, so that no magic number stands for it.

    Parameters
    ----------
    reason : str
        One of a few fixed words, suitable as a tag: ``not_finite``, ``discriminator_won``, ``constant_mask``, ...
    epoch : int
        The epoch (1, 2, ...) in which it showed.
    evidence : mapping of str to float
        The numbers that show it.
    """

    def __init__(self, reason: str, epoch: int, evidence: Mapping[str, float]) -> None:
        numbers = ", ".join(f"{name} = {value:g}" for name, value in evidence.items())
        super().__init__(f"{reason} in epoch {epoch}: {numbers}")
        self.reason = reason
        self.epoch = epoch
        self.evidence = dict(evidence)

    def __reduce__(self) -> tuple[type[TrainingDiverged], tuple[str, int, dict[str, float]]]:
        return type(self), (self.reason, self.epoch, self.evidence)
