"""Laws of means over seeds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.evaluation.plot_style import Series
from trainables.evaluation.seeds import mean_over_seeds, name_with_seeds


def curve(edges: list[float], values: list[float]) -> Series:
    edge = np.array(edges)
    return Series(edge[:-1], edge[1:], np.array(values), np.zeros(len(values)))


def test_the_mean_has_its_standard_error() -> None:
    mean = mean_over_seeds([curve([0, 1, 2], [1.0, 5.0]), curve([0, 1, 2], [3.0, 5.0]), curve([0, 1, 2], [5.0, 5.0])])
    assert mean.value_K.tolist() == [3.0, 5.0]
    assert mean.error_K == pytest.approx([2 / 3**0.5, 0.0])


def test_of_many_noisy_seeds_the_error_tells_how_far_the_mean_is_off() -> None:
    random = np.random.default_rng(1)
    off: list[NDArray[np.float64]] = []
    for _ in range(300):
        mean = mean_over_seeds([curve([0, 1], [random.normal()]) for _ in range(20)])
        off.append(mean.value_K / mean.error_K)
    assert np.std(off) == pytest.approx(1.0, abs=0.15)


def test_only_bins_that_all_seeds_have_are_averaged() -> None:
    one, other = curve([0, 1, 2, 3], [1.0, 2.0, 3.0]), curve([1, 2, 3, 4], [4.0, 5.0, 9.0])
    mean = mean_over_seeds([one, other])
    assert (mean.low_K.tolist(), mean.high_K.tolist()) == ([1.0, 2.0], [2.0, 3.0])
    assert mean.value_K.tolist() == [3.0, 4.0]


def test_of_one_seed_there_is_no_band_and_the_label_stays() -> None:
    mean = mean_over_seeds([curve([0, 1], [2.0])])
    assert mean.error_K.tolist() == [0.0]
    assert (name_with_seeds("best", 1), name_with_seeds("best", 3)) == ("best", "best, 3 seeds")
