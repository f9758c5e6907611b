"""The ZDC networks: the report's listing exactly, inputs normalised inside, nothing random between calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData
from trainables.zdc.model import Discriminator, Generator, Normalisation, build_networks, load_generator
from trainables.zdc.simulate import simulate_data


@pytest.fixture(scope="module")
def data() -> ZDCData:
    return simulate_data(400, 1)


@pytest.mark.parametrize("h", [4, 8, 20])
def test_generator_has_exactly_the_parameters_of_the_reports_listing(h: int) -> None:
    listing = {
        "param_encoder.0": (2 * h, 6),
        "param_encoder.2": (4 * h, 2 * h),
        "encoder.0.0": (4 * h, 4 * h),  # LinearBlock(4h, 4h, 4)
        "encoder.1.0": (9 * h, 4 * h),  # LinearBlock(4h, 9h, 4)
        "encoder.3": (h, h, 3, 3),  # ConvTranspose2d
        "encoder.4.0": (2 * h, h, 3, 3),
        "encoder.5.0": (4 * h, 2 * h, 3, 3),
        "encoder.7.0": (2 * h, h, 5, 5),
        "encoder.8.0": (4 * h, 2 * h, 5, 5),
        "encoder.10.0": (h, h, 5, 5),
        "encoder.11.0": (h, h, 5, 5),
        "film_cond_linear": (h, 4 * h),
        "film.scale": (h, h),
        "film.shift": (h, h),
        "head": (1, h, 1, 1),
    }
    weights = {
        name.removesuffix(".weight"): tuple(parameter.shape)
        for name, parameter in Generator(h).named_parameters()
        if name.endswith(".weight") and parameter.dim() > 1
    }
    assert weights == listing


def test_every_stage_has_the_size_that_the_listing_notes() -> None:
    sizes: list[tuple[int, ...]] = []

    def note(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(tuple(output.shape[1:]))

    generator = Generator(8)
    for stage in generator.encoder:
        stage.register_forward_hook(note)
    assert generator(torch.rand(3, 6)).shape == (3, 20, 20)
    assert sizes[2:4] == [(8, 3, 3), (8, 5, 5)]
    assert sizes[6] == (8, 10, 10)
    assert sizes[9] == sizes[-1] == (8, 20, 20)


def test_discriminator_gives_one_logit_an_event_and_looks_at_both_its_inputs() -> None:
    discriminator, hits, condition = Discriminator(8), torch.rand(5, 20, 20).round(), torch.rand(5, 6)
    logit = discriminator(hits, condition)
    assert logit.shape == (5,)
    assert not torch.equal(logit, discriminator(1 - hits, condition))
    assert not torch.equal(logit, discriminator(hits, condition + 1))


def test_normalised_training_events_are_as_the_report_says(data: ZDCData) -> None:
    condition = data.train.condition_N6
    normalisation = Normalisation()
    normalisation.fit(condition)
    normalised = normalisation(torch.from_numpy(condition)).double().numpy()
    assert normalised[:, 0].min() == 0
    assert normalised[:, 0].max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(normalised[:, 1:].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised[:, 1:].std(axis=0), 1, atol=1e-5)


def test_one_energy_alone_can_be_normalised() -> None:
    normalisation = Normalisation()
    normalisation.fit(np.full((3, 6), 5.0, dtype=np.float32))
    assert torch.isfinite(normalisation(torch.full((2, 6), 5.0))).all()


def test_normalise_off_leaves_raw_inputs(data: ZDCData) -> None:
    for network in build_networks(ZDCConfig(hidden_dim=4, normalise=False), data.train, seed=0):
        condition = torch.rand(2, 6)
        assert torch.equal(network.normalisation(condition), condition)


def test_the_first_mask_is_nearly_the_mean_hit_rate(data: ZDCData) -> None:
    generator, _ = build_networks(ZDCConfig(hidden_dim=8), data.train, seed=0)
    rate = np.unpackbits(data.train.mask_packed_N50, axis=1).mean()
    with torch.no_grad():
        mask = generator(torch.from_numpy(data.train.condition_N6)).sigmoid()
    assert float(mask.mean()) == pytest.approx(rate, rel=0.2)


def test_networks_follow_their_seed_and_leave_the_global_random_state_alone(data: ZDCData) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (build_networks(ZDCConfig(hidden_dim=4), data.train, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_saved_weights_carry_the_normalisation(data: ZDCData) -> None:
    config = ZDCConfig(hidden_dim=4)
    generator, _ = build_networks(config, data.train, seed=0)
    condition = torch.from_numpy(data.validation.condition_N6)
    with torch.no_grad():
        torch.testing.assert_close(load_generator(config, generator.state_dict())(condition), generator(condition))


def test_mask_is_the_same_each_time_and_for_each_event_alone(data: ZDCData) -> None:
    generator, _ = build_networks(ZDCConfig(hidden_dim=4), data.train, seed=0)
    condition = torch.from_numpy(data.validation.condition_N6)
    with torch.no_grad():
        together = generator(condition)
        assert torch.equal(together, generator(condition))
        torch.testing.assert_close(generator(condition[:1]), together[:1])
