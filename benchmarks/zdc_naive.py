"""How fast are the naive scores of zdc: from sums over bits, against scoring event by event?

    python -m benchmarks.zdc_naive --events 200000

Both ways take turns, in CPU time. The same predictors, fitted and scored on the same events.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import tyro

from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.metrics import Scores, score_events
from trainables.zdc.naive import fit_naive, naive_scores
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.simulate import simulate_data


def event_by_event(train: Events, validation: Events, binning: Binning) -> dict[str, Scores]:
    """Score them as any model."""
    resident = ResidentEvents(validation, torch.device("cpu"))
    return {name: score_events(prob, resident, binning) for name, prob in fit_naive(train, binning).items()}


def main(events: int = 200_000, distinct: int = 20_000, repeats: int = 5, threads: int = 1) -> None:
    """Measure and print.

    Parameters
    ----------
    events : int
        Of both parts; four fifths of them train.
    distinct : int
        So many are simulated, and repeated.
    repeats : int
        Timed repeats of each way.
    threads : int
        Of PyTorch.
    """
    torch.set_num_threads(threads)
    data, times = simulate_data(distinct), max(1, events // distinct)
    parts = [
        Events(np.tile(part.condition_N6, (times, 1)), np.tile(part.mask_packed_N50, (times, 1)))
        for part in (data.train, data.validation)
    ]
    ways: dict[str, Callable[..., dict[str, Scores]]] = {"sums over bits": naive_scores, "each event": event_by_event}
    print("| energy bins | way | events/s, best | time / first |\n|---|---|---|---|")
    for width_mev in (100.0, 1000.0):
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                started = time.process_time()
                way(*parts, Binning(bin_width_mev=width_mev))
                seconds[name].append(time.process_time() - started)
        for name, of_way in seconds.items():
            pairs = zip(of_way, seconds["sums over bits"], strict=True)
            ratio = statistics.median(mine / first for mine, first in pairs)
            print(
                f"| {width_mev:g} MeV | {name} | {sum(map(len, parts)) / min(of_way):,.0f} | {ratio:.1f} |", flush=True
            )


if __name__ == "__main__":
    tyro.cli(main)
