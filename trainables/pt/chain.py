"""The one table over the three pT models, the analytic formulas and the report's own result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.pt.combined import BRANCH_ROWS, BRANCHES
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, REPORT
from trainables.pt.train import CORRECTED_NUMBERS

COLUMNS = CORRECTED_NUMBERS

Numbers = Mapping[str, float]


def chain_rows(
    ranked: Mapping[str, Sequence[tuple[Mapping[str, Any], Numbers]]], others: Mapping[str, Numbers]
) -> dict[str, Numbers]:
    """Numbers by label, from the formulas to the combined model with its correction.

    Parameters
    ----------
    ranked : mapping of workload to sequence of (hyperparameters, metrics)
        Complete trials, best first.
    others : mapping of label to metrics
        Baselines and references of pt-combined: the formulas, each branch alone on the same validation events,
        and the report's result where it compares.
    """
    rows = {name: others[name] for name in (ENERGY_FORMULA, ANGLE_FORMULA)}
    rows |= {
        f"{workload} alone, kept epoch": others[label] for workload, label in zip(BRANCHES, BRANCH_ROWS, strict=True)
    }
    combined = ranked["pt-combined"]
    corrected = [metrics for point, metrics in combined if point["post_correction"] != "none"]
    best = combined[0][1]
    if best in corrected[:1]:
        rows["pt-combined"] = _uncorrected(best)
        rows["pt-combined, post-correction"] = best
    else:
        rows["pt-combined"] = best
        if corrected:
            rows["another pt-combined, post-correction"] = corrected[0]
    return rows | ({REPORT: others[REPORT]} if REPORT in others else {})


def _uncorrected(metrics: Numbers) -> dict[str, float]:
    return {column: metrics[f"{column}_uncorrected"] for column in COLUMNS}
