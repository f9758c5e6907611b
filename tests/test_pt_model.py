"""The pT network: its size, its standardised inputs, its dropout, and nothing random in a prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.pt.config import PtCombinedConfig, PtConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.model import build_network, dropout_factor, in_chunks, load_network


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def event_features() -> Tensor:
    return torch.randn(200, 7, generator=random(1))


@pytest.mark.parametrize(
    ("config", "inputs", "width"),
    [(PtEnergyConfig(), 7, 256), (PtEnergyConfig(features="full"), 59, 256), (PtDphiConfig(), 2, 256)],
)
def test_the_network_of_the_report(config: PtConfig, inputs: int, width: int) -> None:
    shapes = [tuple(parameter.shape) for parameter in build_network(config, inputs, 0).parameters()]
    hidden = [(width, inputs), (width,), (width, width), (width,), (width, width), (width,)]
    assert shapes == [*hidden, (1, width), (1,)]


def test_width_and_depth_are_those_of_the_configuration() -> None:
    network = build_network(PtCombinedConfig(width=9, depth=2), 14, 0)
    assert [tuple(layer.weight.shape) for layer in network.hidden] == [(9, 14), (9, 9)]
    assert network(torch.rand(5, 14)).shape == (5,)


def test_a_prediction_is_what_the_weights_say() -> None:
    network = build_network(PtDphiConfig(width=4, depth=2, dropout=0.5), 2, 3)
    feature = torch.rand(6, 2, generator=random(1)) * 100
    active = feature
    for layer in network.hidden:
        active = (active @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(network(feature), (active @ network.head.weight.T + network.head.bias)[:, 0])


def test_only_the_energy_model_standardises_its_inputs() -> None:
    names = [{*build_network(config, 3, 0).state_dict()} for config in (PtEnergyConfig(), PtDphiConfig())]
    assert names[0] - names[1] == {"mean", "scale"}
    assert names[1] - names[0] == set()


def test_standardised_training_events_have_mean_0_and_deviation_1() -> None:
    train = np.random.default_rng(1).normal(5, [0.01, 100], (500, 2)).astype(np.float32)
    network = build_network(PtEnergyConfig(), 2, 0)
    network.fit_scaler(train)
    standardised = (torch.from_numpy(train) - network.mean) / network.scale
    np.testing.assert_allclose(standardised.mean(dim=0), 0, atol=2e-4)
    np.testing.assert_allclose(standardised.std(dim=0, correction=0), 1, atol=1e-4)
    network.hidden[0] = torch.nn.Identity()
    network.hidden[1] = torch.nn.Identity()
    network.hidden[2] = torch.nn.Linear(2, 256)
    torch.testing.assert_close(
        network(torch.from_numpy(train)),
        network.head(network.hidden[2](standardised.relu()).relu())[:, 0],
    )


def test_a_constant_feature_keeps_its_scale() -> None:
    train = np.full((300, 2), 0.1, dtype=np.float32)
    train[:, 1] = np.arange(300)
    network = build_network(PtEnergyConfig(), 2, 0)
    network.fit_scaler(train)
    assert network.scale[0] == 1
    assert torch.isfinite(network(torch.from_numpy(train))).all()


def test_the_first_predictions_are_positive_and_nearly_the_best_constant() -> None:
    truth = np.random.default_rng(1).uniform(0.3, 10, 4000).astype(np.float32)
    network = build_network(PtDphiConfig(), 2, 0)
    network.start_at(truth)
    pt = network(torch.stack((torch.linspace(0.5, 100, 100), torch.zeros(100)), dim=1)).detach().double()
    constants = np.linspace(0.1, 5, 5000)
    best = constants[np.argmin([np.square(1 - constant / truth).mean() for constant in constants])]
    assert network.head.bias.item() == pytest.approx(best, abs=2e-3)
    assert (pt > 0).all()


def test_networks_follow_their_seed_and_leave_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (build_network(PtDphiConfig(), 2, seed) for seed in (1, 1, 2))
    first.estimate(torch.rand(3, 2, generator=random(1)), random(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_saved_weights_are_the_whole_model(event_features: Tensor) -> None:
    config = PtEnergyConfig(width=8)
    network = build_network(config, 7, 0)
    network.fit_scaler(event_features.numpy() * 3 + 1)
    loaded = load_network(config, network.state_dict())
    assert torch.equal(loaded(event_features), network(event_features))
    combined = build_network(PtCombinedConfig(width=8), 7, 0)
    assert combined.correction is not None
    combined.correction.set_to(-9.0, 0.5, 0.1)
    loaded = load_network(PtCombinedConfig(width=8), combined.state_dict())
    assert torch.equal(loaded(event_features), combined(event_features))
    assert not torch.equal(loaded(event_features), loaded.estimate(event_features))


def test_many_events_are_predicted_like_each_alone() -> None:
    network = build_network(PtDphiConfig(width=4), 2, 0)
    feature = torch.rand(40_000, 2, generator=random(1))
    pt = in_chunks(network, feature)
    assert pt.shape == (40_000,)
    assert not pt.requires_grad
    torch.testing.assert_close(pt[[0, 16_384, 39_999]], network(feature[[0, 16_384, 39_999]]).detach())
    assert in_chunks(network, feature[:0]).shape == (0,)


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("dropout", [0.05, 0.2, 0.5, 0.9])
def test_dropout_keeps_the_share_and_the_mean(dropout: float) -> None:
    factor = dropout_factor(torch.Size((1000, 1000)), dropout, random(1))
    kept = factor > 0
    share = round((1 - dropout) * 256) / 256
    assert share == pytest.approx(1 - dropout, abs=1 / 512)
    sigma = (share * (1 - share) / 1e6) ** 0.5
    assert float(kept.float().mean()) == pytest.approx(share, abs=5 * sigma)
    assert float(factor.double().mean()) == pytest.approx(1, abs=5 * sigma / share)
    assert set(factor.unique().tolist()) == {0.0, float(torch.tensor(1 / share))}


def test_every_byte_of_a_draw_keeps_the_same_share() -> None:
    """Eight neurons share one draw of 64 bits; none may be kept more often than another, nor two together."""
    kept = (dropout_factor(torch.Size((200_000, 8)), 0.2, random(2)) > 0).double()
    share = 205 / 256
    np.testing.assert_allclose(kept.mean(dim=0), share, atol=5 * (share * (1 - share) / 2e5) ** 0.5)
    np.testing.assert_allclose(torch.corrcoef(kept.T), torch.eye(8), atol=5 / 2e5**0.5)


def test_dropout_of_any_shape() -> None:
    assert dropout_factor(torch.Size((3, 5)), 0.2, random(1)).shape == (3, 5)
    assert (dropout_factor(torch.Size((3, 5)), 1e-4, random(1)) == 1).all()
    assert torch.isfinite(dropout_factor(torch.Size((64, 64)), 0.9999, random(1))).all()


def test_each_layer_drops_neurons_of_its_own(event_features: Tensor) -> None:
    network = build_network(PtEnergyConfig(width=64, depth=3, dropout=0.5), 7, 0)
    asked: list[Tensor] = []
    for layer in (*network.hidden[1:], network.head):
        layer.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0] == 0))
    network.estimate(event_features, random(1))
    drawn = dropout_factor(torch.Size((3, len(event_features), 64)), 0.5, random(1)) == 0
    assert all((zero | ~drops).all() for zero, drops in zip(asked, drawn, strict=True))
    assert not torch.equal(drawn[0], drawn[1])


def test_only_an_estimate_with_a_generator_drops_neurons(event_features: Tensor) -> None:
    network = build_network(PtEnergyConfig(width=32, dropout=0.5), 7, 0)
    still = network(event_features)
    assert torch.equal(still, network(event_features))
    assert torch.equal(still, network.estimate(event_features))
    one, same_draws, other = (network.estimate(event_features, random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same_draws)
    assert not torch.equal(one, other)
    assert not torch.equal(one, still)


def test_gradient_reaches_only_neurons_that_were_kept() -> None:
    network = build_network(PtDphiConfig(width=64, depth=1, dropout=0.5), 2, 0)
    feature = torch.tensor([[20.0, 0.0]])
    kept = dropout_factor(torch.Size((1, 64)), 0.5, random(4))[0] > 0
    network.estimate(feature, random(4)).sum().backward()
    active = (network.hidden[0](feature)[0] > 0) & kept
    gradient = network.head.weight.grad
    assert gradient is not None
    assert torch.equal(gradient[0] != 0, active)
    assert 0 < int(active.sum()) < int((network.hidden[0](feature)[0] > 0).sum())


def test_a_feature_that_varies_by_its_rounding_alone_is_constant() -> None:
    phi_N = np.linspace(-3, 3, 300)
    train_N1 = np.hypot(*(93.5 * np.stack([np.cos(phi_N), np.sin(phi_N)])).astype(np.float32))[:, np.newaxis]
    assert np.ptp(train_N1) > 0
    network = build_network(PtEnergyConfig(), 1, 0)
    network.fit_scaler(train_N1)
    assert network.scale[0] == 1
