"""Hyperparameters of the ZDC model and of its training, with unit, range and default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from trainables.base.training import TrainingConfig


class ZDCConfig(TrainingConfig):
    """Hyperparameters of one run. Defaults are the report's test26-lr4; what it leaves open is marked (ours).

    Source: ZDC status report of 2025-08-07.
    """

    hidden_dim: int = Field(16, ge=4, multiple_of=4, description="h of the network's listing (ours: 16)")
    gan: bool = Field(True, description="train against a discriminator; false: regression only")
    dis_gen_ratio: str = Field("1:1", description="updates per iteration, discriminator:generator, as n:m")
    max_lr_gen: float = Field(9e-4, gt=0, description="peak of the generator's OneCycleLR")
    max_lr_dis: float = Field(1e-3, gt=0, description="peak of the discriminator's OneCycleLR")
    pct_start: float = Field(0.35, gt=0, lt=1, description="share of the cycle before its peak, both networks")
    noise_shape: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="noise strength along the epochs; constant: noise_start throughout"
    )
    noise_start: float = Field(0.7, ge=0, description="noise strength in the first epoch")
    noise_end: float = Field(1.0, ge=0, description="noise strength in the last epoch")
    adversarial_weight: float = Field(
        0.003,
        gt=0,
        description="adversarial loss per regression loss; from 0.01 on it spoils calibration (ours)",
    )
    normalise: bool = Field(True, description="normalise the six inputs; false: raw GeV and radian")
    smoothing: float = Field(
        0.1, ge=0, lt=0.5, description="label smoothing of the discriminator's real events (ours); 0: off"
    )
    gradient_clip_norm: float = Field(1.0, gt=0, description="largest gradient norm of an update (ours)")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast, on CUDA only")

    @field_validator("dis_gen_ratio")
    @classmethod
    def _small_whole_numbers(cls, value: str) -> str:
        parts = value.split(":")
        if len(parts) != 2 or not all(part.isdecimal() and 1 <= int(part) <= 50 for part in parts):
            raise ValueError(f"expected n:m with whole numbers from 1 to 50, as in 1:5; found {value!r}")
        return value

    @property
    def dis_updates(self) -> int:
        """Return the discriminator updates per iteration."""
        return int(self.dis_gen_ratio.split(":")[0])

    @property
    def gen_updates(self) -> int:
        """Return the generator updates per iteration."""
        return int(self.dis_gen_ratio.split(":")[1])
