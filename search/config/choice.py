"""Choose the sampler and the scheduler where the user leaves them open, and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.config.settings import Method

FEW_TRIALS = 20  # with fewer, a first rung that lets one in three pass has nobody to compare a trial with


def choose_sampler(method: Method) -> str:
    """Return the sampler that was asked for; TPE where it was left open."""
    return "tpe" if method.sampler == "auto" else method.sampler


def choose_scheduler(method: Method, objectives: int, trials: int) -> str:
    """Return the scheduler that was asked for, or the one that fits the number of objectives and of sampled trials."""
    if method.scheduler != "auto":
        return method.scheduler
    if objectives > 1:
        return "none"
    return "asha" if trials < FEW_TRIALS else "asha-early"


def scheduler_reason(scheduler: str, method: Method, objectives: int, trials: int) -> str:
    """Return in words why a search has that scheduler; empty where the user named it."""
    if method.scheduler != "auto":
        return ""
    if scheduler != choose_scheduler(method, objectives, trials):
        return "as this search was begun"
    return {
        "none": "of several objectives one alone may not stop a trial",
        "asha": f"fewer than {FEW_TRIALS} sampled trials; one of two goes on at 25 and 50 % of its progress",
        "asha-early": "one of three trials goes on at 10, 30 and 90 % of its progress, which measured best",
    }[scheduler]
