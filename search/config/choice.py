"""Choose the sampler and the scheduler where the user leaves them open, and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.config.settings import Method
    from search.config.spec import SearchSpec

FEW_TRIALS = 20  # with fewer, there is nobody to compare a trial with at an early rung
MANY_TRIALS = 200  # from here on compute is the limit, not the number of points: better look at many than train many
_LEARNS_NOTHING = ("random", "qmc")  # samplers to which it is the same how far a trial was trained
CUTS = {  # scheduler -> where it stops trials, in words
    "asha": "one of two trials goes on at 25 and 50 % of its progress",
    "asha-early": "one of three trials goes on at 10, 30 and 90 % of its progress",
    "asha-sharp": "one of four trials goes on after its first epoch, and whenever it has made four times the progress",
}


def choose_sampler(method: Method, objectives: int, trials: int) -> str:
    """Return the sampler that was asked for; where it was left open TPE, or random points for many trials.

    Many trials are cut at their first epochs, and what is known of a point after so few misleads a model: on recorded
    curves no variant of TPE did better than random points there.
    """
    if method.sampler != "auto":
        return method.sampler
    cut_early = objectives == 1 and method.scheduler in ("auto", "asha-sharp") and not method.warm_from
    return "random" if cut_early and trials >= MANY_TRIALS else "tpe"


def choose_scheduler(method: Method, objectives: int, trials: int) -> str:
    """Return the scheduler that was asked for, or the one that fits objectives, sampler and number of sampled trials.

    With random points early and sharp cuts gave better models for the same compute. With TPE they did not, and with the
    same number of trials worse ones: it learns more from trials that were trained longer.
    """
    if method.scheduler != "auto":
        return method.scheduler
    if objectives > 1:
        return "none"
    if choose_sampler(method, objectives, trials) not in _LEARNS_NOTHING or trials < FEW_TRIALS:
        return "asha"
    return "asha-early" if trials < MANY_TRIALS else "asha-sharp"


def scheduler_reason(spec: SearchSpec) -> str:
    """Return in words why a search has its scheduler; empty where the user named it."""
    method, scheduler, objectives = spec.method, spec.scheduler, len(spec.goal.objectives)
    if method.scheduler != "auto":
        return ""
    if scheduler != choose_scheduler(method, objectives, spec.trials):
        return "as this search was begun"
    match scheduler:
        case "none":
            return "of several objectives one alone may not stop a trial"
        case "asha-sharp":
            return f"{CUTS[scheduler]}: of {MANY_TRIALS} random points or more, the best models for the compute"
        case "asha-early":
            return f"{CUTS[scheduler]}: best for points that are drawn at random"
    if choose_sampler(method, objectives, spec.trials) in _LEARNS_NOTHING:
        return f"{CUTS[scheduler]}: fewer than {FEW_TRIALS} are sampled"
    return f"{CUTS[scheduler]}: the sampler learns from long trials"
