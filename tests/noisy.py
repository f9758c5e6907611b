"""The tiny workload whose loss depends on the seed, as that of a real model does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tiny import TinyConfig, TinyTraining, make_tiny

from search.tuning.race_plan import FIRST_NUMBER
from search.workload import Workload


class NoisyConfig(TinyConfig):
    noise: float = 0.05  # standard deviation of the loss over seeds
    luck: float = 0.0  # taken off the loss of a trial, but of no new seed


class NoisyTraining(TinyTraining):
    """Its loss is that of tiny and the noise of its seed."""

    def validate(self) -> dict[str, float]:
        config = self.config
        assert isinstance(config, NoisyConfig)
        found = super().validate()
        luck = config.luck if config.seed < FIRST_NUMBER else 0.0
        return found | {"loss": found["loss"] + config.noise * np.random.default_rng(config.seed).normal() - luck}


def make_noisy(**presets: dict[str, Any]) -> Workload:
    return replace(make_tiny(**presets), training=NoisyTraining, config=NoisyConfig)
