"""Choose the sampler and the scheduler where the user leaves them open, and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.config.settings import Method
    from search.config.spec import SearchSpec

FEW_TRIALS = 20  # with fewer, there is nobody to compare a trial with at an early rung
_LEARNS_NOTHING = ("random", "qmc")  # samplers to which it is the same how far a trial was trained
CUTS = {  # scheduler -> where it stops trials, in words
    "asha": "one of two trials goes on at 25 and 50 % of its progress",
    "asha-early": "one of three trials goes on at 10, 30 and 90 % of its progress",
}


def choose_sampler(method: Method) -> str:
    """Return the sampler that was asked for; TPE where it was left open."""
    return "tpe" if method.sampler == "auto" else method.sampler


def choose_scheduler(method: Method, objectives: int, trials: int) -> str:
    """Return the scheduler that was asked for, or the one that fits objectives, sampler and number of sampled trials.

    With random points early and sharp cuts gave better models for the same compute. With TPE they did not, and with the
    same number of trials worse ones: it learns more from trials that were trained longer.
    """
    if method.scheduler != "auto":
        return method.scheduler
    if objectives > 1:
        return "none"
    early = choose_sampler(method) in _LEARNS_NOTHING and trials >= FEW_TRIALS
    return "asha-early" if early else "asha"


def scheduler_reason(spec: SearchSpec) -> str:
    """Return in words why a search has its scheduler; empty where the user named it."""
    method, scheduler = spec.method, spec.scheduler
    if method.scheduler != "auto":
        return ""
    if scheduler != choose_scheduler(method, len(spec.goal.objectives), spec.trials):
        return "as this search was begun"
    if scheduler == "none":
        return "of several objectives one alone may not stop a trial"
    if scheduler == "asha-early":
        return f"{CUTS[scheduler]}: best for points that are drawn at random"
    if choose_sampler(method) in _LEARNS_NOTHING:
        return f"{CUTS[scheduler]}: fewer than {FEW_TRIALS} are sampled"
    return f"{CUTS[scheduler]}: the sampler learns from long trials"
