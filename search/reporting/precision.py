"""Judge whether the validation events suffice to rank trials: the spread of a metric against its statistical error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from trainables.base.objectives import Goal, Metrics

BEST_SHARE = 0.25  # of the complete trials; at least
FEWEST = 3  # of them: two have no spread to speak of
MORE_EVENTS = "--validation-share, --validation FILES"


def judge_spread(values: Sequence[float], errors: Sequence[float]) -> str | None:
    """Compare the spread of the best trials with their statistical error.

    Both are standard deviations. An error falls at least with the square root of the number of validation events,
    which gives the factor by which more of them would help.

    Parameters
    ----------
    values, errors : sequence of float
        Of one metric and its error, for complete trials, best first.

    Returns
    -------
    str or None
        The rest of a sentence that begins with the metric's name; None where the spread is larger than the error,
        or where fewer than ``FEWEST`` trials have numbers.
    """
    count = max(FEWEST, math.ceil(BEST_SHARE * len(values)))
    best, of_best = values[:count], errors[:count]
    if len(best) < FEWEST or not all(map(math.isfinite, (*best, *of_best))):
        return None
    spread, error = statistics.stdev(best), statistics.median(of_best)
    if spread >= error:
        return None
    factor = f"up to {(error / spread) ** 2:.2g} times as many" if spread else "more"
    return (
        f"of the best {count} of {len(values)} trials differs by {spread:.1g}, less than its statistical error of "
        f"{error:.1g}: their order may be chance. What helps is {factor} validation events ({MORE_EVENTS}), not more "
        "trials; search.promote compares the best on the holdout, with new seeds"
    )


def about_trials(goal: Goal, metrics: Sequence[Metrics]) -> list[str]:
    """Return one sentence for each objective and constrained metric whose error hides the order of the best trials.

    Parameters
    ----------
    metrics : sequence of mapping of str to float
        Of complete trials, best first.
    """
    lines = []
    for name in (*goal.objectives, *goal.constrained):
        if all(f"{name}_error" in one for one in metrics):
            sentence = judge_spread([one[name] for one in metrics], [one[f"{name}_error"] for one in metrics])
            lines += [f"spread   {name} {sentence}"] if sentence else []
    return lines


def seed_error(goal: Goal, metrics: Sequence[Metrics]) -> float | None:
    """Return the declared error of the first objective for the better trials, in any order; None: it is not given.

    It stands for the noise of a seed where nobody has measured that.
    """
    name = f"{goal.objective}_error"
    best = sorted((one for one in metrics if name in one), key=goal.order)
    errors = [one[name] for one in best[: max(FEWEST, math.ceil(BEST_SHARE * len(best)))] if math.isfinite(one[name])]
    return statistics.median(errors) if errors else None


def about_baselines(goal: Goal, baselines: Mapping[str, Metrics]) -> list[str]:
    """Return how precise the first objective is for the naive predictor that it is most precise for."""
    name = goal.objective
    errors = {label: one.get(f"{name}_error", math.nan) for label, one in baselines.items()}
    known = {label: error for label, error in errors.items() if math.isfinite(error) and error > 0}
    if not known:
        return []
    label = min(known, key=lambda one: known[one])
    return [
        f"data     {name} is known to +- {known[label]:.1g} for {label} on the validation events, often better for a "
        f"good model; trials that differ by less need more events ({MORE_EVENTS})"
    ]
