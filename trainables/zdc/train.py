"""One training run of the ZDC model: its epochs, scores, state, and the reasons to end it early."""

# B batch, H row (ix), W column (iy); 6 conditions as in events.CONDITIONS

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.batches import BatchStream
from trainables.base.checkpoint import FIGURE_DATA
from trainables.base.errors import TrainingDiverged
from trainables.base.history import LossHistory
from trainables.base.training import TrainedModel, Training
from trainables.base.updates import Updates
from trainables.zdc.binning import check_binning
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData
from trainables.zdc.inference import Mask, build_mask
from trainables.zdc.loss import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
    regression_loss,
    sampled_hits,
)
from trainables.zdc.metrics import Scores, score_events
from trainables.zdc.model import build_networks
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.schedule import noise_strength, one_cycle_lr

BETAS = (0.5, 0.9)  # ours: little momentum, as is usual for GANs (arXiv:1511.06434)
POINTS_PER_EPOCH = 20  # of the loss curves
WON_ACCURACY = 0.98  # of the discriminator over an epoch, and
WON_EPOCHS = 3  # the generator's adversarial loss rising for as many epochs: it no longer learns from it
FLAT_SPREAD = 2e-4  # mean standard deviation of a crystal's probability over events; 8e-4 before any training


class ZDCTraining(Training):
    """Training of the generator on Geant4's hits, with or without a discriminator.

    An epoch is one pass of the generator over the training events in a fresh order. It consists of iterations
    of exactly ``dis_updates`` updates of the discriminator and ``gen_updates`` of the generator, each on a
    batch of its own; the discriminator has its own order. Without GAN an iteration is one generator update.

    Raises
    ------
    DataError
        A region of the objective has no energy bin with enough validation events.
    ValueError
        bf16 without CUDA.
    """

    stack_type = None  # on a CPU grouped convolutions train at 0.4 to 0.6 times the speed of one run after another

    config: ZDCConfig

    def __init__(self, config: ZDCConfig, data: ZDCData, device: torch.device) -> None:
        if config.precision == "bf16" and device.type != "cuda":
            raise ValueError(f"precision bf16 is for CUDA devices, this run is on {device.type}: use precision fp32")
        check_binning(data.binning, [data.validation.energy_mev])
        self.config, self.data, self.device, self.epoch = config, data, device, 0
        self.train_events = ResidentEvents(data.train, device)
        self.validation_events = ResidentEvents(data.validation, device)
        weight_seed, order_seed, dis_order_seed, noise_seed = (
            np.random.SeedSequence(config.seed).generate_state(4).tolist()
        )
        events = len(self.train_events)
        self.gen_batches = BatchStream(events, config.batch_size, order_seed, device)
        self.dis_batches = BatchStream(events, config.batch_size, dis_order_seed, device)
        self.noise = torch.Generator(device).manual_seed(noise_seed)
        self.dis_updates, self.gen_updates = (config.dis_updates, config.gen_updates) if config.gan else (0, 1)
        self.iterations = max(1, self.gen_batches.batches // self.gen_updates)
        generator, discriminator = build_networks(config, data.train, weight_seed)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        whole_run = config.epochs * self.iterations
        self.gen = self._updates(self.generator, config.max_lr_gen, whole_run * self.gen_updates)
        self.dis = self._updates(self.discriminator, config.max_lr_dis, whole_run * self.dis_updates)
        self.history = LossHistory(POINTS_PER_EPOCH)
        self.excess_by_epoch: dict[int, list[float]] = {}  # of each energy bin with enough events

    def _updates(self, network: nn.Module, max_lr: float, total: int) -> Updates:
        """Build the updates of one network; its cycle of learning rates ends with the last update of the run."""
        pct_start = self.config.pct_start
        return Updates(
            network,
            lambda update: one_cycle_lr(update, total, max_lr, pct_start),
            betas=BETAS,
            clip_norm=self.config.gradient_clip_norm,
        )

    def train_epoch(self) -> dict[str, float]:
        c, epoch = self.config, self.epoch + 1
        noise = noise_strength(epoch, c.epochs, c.noise_shape, c.noise_start, c.noise_end)
        self.gen_batches.start_epoch()
        self.dis_batches.start_epoch()
        for iteration in range(1, self.iterations + 1):
            for _ in range(self.dis_updates):
                self._update_discriminator(noise)
            for _ in range(self.gen_updates):
                self._update_generator(noise)
            if self.history.is_due(iteration, self.iterations):
                self._close_point(epoch, epoch - 1 + iteration / self.iterations)
        self.epoch = epoch
        self._stop_if_discriminator_won()
        numbers = self.history.epoch_means(epoch) | {
            "lr_gen": self.gen.lr,
            "gen_updates": float(self.gen.made),
        }
        if c.gan:
            numbers |= {"lr_dis": self.dis.lr, "dis_updates": float(self.dis.made), "noise_strength": noise}
        return numbers

    def _update_discriminator(self, noise: float) -> None:
        condition_B6, hit_BHW = self.train_events.batch(self.dis_batches.draw())
        with self._autocast():
            with torch.no_grad():
                fake_BHW = sampled_hits(self.generator(condition_B6).float(), noise, self.noise)
            both_BHW, both_B6 = torch.cat((hit_BHW, fake_BHW)), torch.cat((condition_B6, condition_B6))
            real_logit_B, fake_logit_B = self.discriminator(both_BHW, both_B6).float().chunk(2)
        loss = discriminator_loss(real_logit_B, fake_logit_B, self.config.smoothing)
        self.dis.make(loss)
        self.history.add(loss_dis=loss, discriminator_accuracy=discriminator_accuracy(real_logit_B, fake_logit_B))

    def _update_generator(self, noise: float) -> None:
        condition_B6, hit_BHW = self.train_events.batch(self.gen_batches.draw())
        with self._autocast():
            mask_logit_BHW = self.generator(condition_B6).float()
        loss = regression = regression_loss(mask_logit_BHW, hit_BHW)
        if self.config.gan:
            fake_BHW = sampled_hits(mask_logit_BHW, noise, self.noise)
            with self._autocast():
                fake_logit_B = self.discriminator.requires_grad_(False)(fake_BHW, condition_B6).float()
            self.discriminator.requires_grad_(True)
            adversarial = adversarial_loss(fake_logit_B)
            loss = regression + self.config.adversarial_weight * adversarial
            self.history.add(loss_adversarial=adversarial)
        self.gen.make(loss)
        self.history.add(loss_gen=loss, loss_regression=regression)

    def validate(self) -> dict[str, float]:
        scores = self._scores()
        if self.progress > 0 and (spread := scores.mask_spread) < FLAT_SPREAD:
            raise TrainingDiverged(
                "constant_mask", self.epoch, {"mask_spread": spread, "smallest_allowed": FLAT_SPREAD}
            )
        self.excess_by_epoch[self.epoch] = scores.curve.excess.tolist()
        return scores.numbers()

    def mask_prob(self, condition_B6: Tensor) -> Tensor:
        """Return the MASK of the present model: raw conditions (B, 6) -> probability of a hit (B, 20, 20)."""
        with torch.no_grad(), self._autocast():
            mask_logit_BHW: Tensor = self.generator(condition_B6).float()
        return mask_logit_BHW.sigmoid()

    @property
    def progress(self) -> float:
        """Return 0 up to the peak of the learning-rate cycle, then a linear rise to 1 at the last epoch.

        Before its peak the score of a run depends mostly on how late the peak is (pct_start), so runs of different
        cycles must not be compared there.
        """
        peak = self.config.pct_start * self.config.epochs
        return max(0.0, (self.epoch - peak) / (self.config.epochs - peak))

    def state(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"epoch": self.epoch, "gen": self.gen.state(), "dis": self.dis.state()}
        parts["random"] = [random.get_state() for random in self._randoms()]
        parts["history"], parts["excess_by_epoch"] = self.history.points, self.excess_by_epoch
        return copy.deepcopy(parts)

    def load_state(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # because optimizers update the tensors in place
        self.epoch = state["epoch"]
        self.gen.load_state(state["gen"])
        self.dis.load_state(state["dis"])
        for random, saved in zip(self._randoms(), state["random"], strict=True):
            random.set_state(saved.cpu())
        self.history.points = state["history"]
        self.excess_by_epoch = state.get("excess_by_epoch", {})  # searches of earlier versions have none

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.generator.state_dict().items()}

    @classmethod
    def from_weights(cls, config: ZDCConfig, weights: dict[str, Tensor], device: torch.device) -> Mask:
        """Make the model for inference of a run's ``weights()``: raw conditions (B, 6) to hit probabilities."""
        return build_mask(TrainedModel("zdc", "", config.model_dump(), weights)).to(device)

    def write_report(self, folder: Path) -> None:
        self.write_tables(folder)
        self.draw_report(folder)
        (folder / FIGURE_DATA).unlink()

    def write_tables(self, folder: Path) -> None:
        from trainables.zdc.report import write_tables  # drawing is not needed for training

        write_tables(folder, self.data, self._scores(), self.history.points, self.excess_by_epoch)

    @staticmethod
    def draw_report(folder: Path) -> None:
        from trainables.zdc.report import draw_report

        draw_report(folder)

    def _scores(self) -> Scores:
        return score_events(self.mask_prob, self.validation_events, self.data.binning)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _randoms(self) -> list[torch.Generator]:
        return [self.gen_batches.random, self.dis_batches.random, self.noise]

    def _close_point(self, epoch: int, at: float) -> None:
        rates = {"lr_gen": self.gen.lr} | ({"lr_dis": self.dis.lr} if self.config.gan else {})
        self.history.close_point(epoch=at, step=float(self.gen.made), **rates)
        for name, updates in (("gen", self.gen), ("dis", self.dis)):
            if evidence := updates.first_bad():
                raise TrainingDiverged("not_finite", epoch, {f"{key}_{name}": value for key, value in evidence.items()})

    def _stop_if_discriminator_won(self) -> None:
        if not self.config.gan or self.epoch <= WON_EPOCHS:
            return
        lately = [self.history.epoch_means(epoch) for epoch in range(self.epoch - WON_EPOCHS, self.epoch + 1)]
        losses = [means["loss_adversarial"] for means in lately]
        accuracy = lately[-1]["discriminator_accuracy"]
        if accuracy > WON_ACCURACY and all(later > earlier for earlier, later in pairwise(losses)):
            evidence = {"discriminator_accuracy": accuracy, "loss_adversarial": losses[-1]}
            raise TrainingDiverged("discriminator_won", self.epoch, evidence)
