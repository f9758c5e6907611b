"""Stacks: what a run does among others is what it does alone, whoever comes, goes or diverges beside it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from pt_models import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.base.errors import TrainingDiverged
from trainables.base.stack_speed import best_slots, slots_in_memory
from trainables.base.stacked_updates import StackedUpdates
from trainables.base.updates import Updates
from trainables.pt.config import PtDphiConfig, PtEnergyConfig
from trainables.pt.data import PtData
from trainables.pt.model import LOWEST
from trainables.pt.simulate import simulate_combined_data
from trainables.pt.stack import PtStack
from trainables.pt.train import PtEnergyTraining
from trainables.zdc.train import ZDCTraining

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"width": 12, "depth": 2, "batch_size": 64, "epochs": 30}
# of one shape, with nothing else in common; the fourth diverges at once
MIXED: list[dict[str, Any]] = [
    {"learning_rate": 1e-3, "dropout": 0.0, "peak_weight": 3.3, "peak_window": 0.2},
    {"learning_rate": 4e-3, "dropout": 0.37, "final_rate": 0.1, "weight_decay": 0.1, "peak_weight": 50.1},
    {"learning_rate": 2e-4, "dropout": 0.1, "peak_weight": 1.0, "peak_window": 0.05, "weight_decay": 0.01},
    {"learning_rate": 1e30, "dropout": 0.2},
]
OF_MODEL: dict[str, list[dict[str, Any]]] = {
    "energy": [{}, {}, {}, {}],
    "dphi": [
        {"lambda_mono": 0.7, "boundary_ramp": 0.03, "boundary_cap": 0.05},
        {"monotonic": False, "boundary_ramp": 0.1, "boundary_cap": 2.0},
        {"boundary": False, "lambda_mono": 3.0},
        {},
    ],
    "combined": [
        {"post_correction": "fitted", "post_start": 1.0},
        {"post_correction": "none"},
        {"post_correction": "given", "post_slope": 0.1},
        {},
    ],
}


@pytest.fixture(scope="module")
def data() -> PtData:
    return simulate_combined_data(700, 1)  # pt-energy and pt-dphi see nothing of the branches


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begin(model: str, data: PtData, number: int = 0, **config: Any) -> Any:
    training, of_model = MODELS[model]
    options = SMALL | MIXED[number] | OF_MODEL[model][number] | {"seed": number} | config
    begun = training(of_model(**options), data, CPU)
    if model == "dphi":  # a network that rises with the angle, so that both penalties have something to say
        nn.init.normal_(begun.network.head.weight, generator=torch.Generator().manual_seed(number))
    return begun


def in_double(training: Any) -> Any:
    """Let a run work with numbers of 64 bits, so that only the order of its sums is rounded."""
    training.network.double()
    for name in ("train_NF", "validation_NF", "truth_N", "probe_KP2", "_inverse_K"):
        if hasattr(training, name):
            setattr(training, name, getattr(training, name).double())
    config, total = training.config, training.config.epochs * training.batches.batches
    rate_of = training.updates._rate_of
    assert rate_of(3) == config.rate_of(3, total)
    training.updates = Updates(training.network, rate_of, weight_decay=config.weight_decay)
    return training


def numbers(training: Any) -> torch.Tensor:
    """All that changes in a run: weights, moments, counts."""
    averages, squares = training.updates.moments()
    parts = [*training.network.state_dict().values(), *averages, *squares]
    counts = [training.epoch, training.updates.made, training.updates.steps]
    return torch.cat([*(part.detach().double().flatten() for part in parts), torch.tensor(counts).double()])


def weights(training: Any) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for part in training.network.parameters()])


def train_alone(training: Any) -> dict[str, float] | TrainingDiverged:
    try:
        result: dict[str, float] = training.train_epoch()
    except TrainingDiverged as diverged:
        return diverged
    return result


def assert_same(stacked: Any, alone: Any) -> None:
    torch.testing.assert_close(numbers(stacked), numbers(alone), rtol=1e-10, atol=1e-10)
    assert all(map(torch.equal, stacked.state()["random"], alone.state()["random"]))
    assert stacked.history.points.keys() == alone.history.points.keys()
    for name, column in alone.history.points.items():
        assert stacked.history.points[name] == pytest.approx(column, rel=1e-6, nan_ok=True), name


def assert_same_end(stacked: Any, alone: Any) -> None:
    """What an epoch returns or raises."""
    assert type(stacked) is type(alone)
    if isinstance(alone, TrainingDiverged):
        assert (stacked.reason, stacked.epoch) == (alone.reason, alone.epoch)
        assert stacked.evidence == pytest.approx(alone.evidence, rel=1e-6, nan_ok=True)
    else:
        assert list(stacked) == list(alone)
        assert stacked == pytest.approx(alone, rel=1e-6)


# ---------------------------------------------------------------- as alone


@pytest.mark.parametrize("padded", [False, True])
def test_a_run_among_others_is_what_it_is_alone(model: str, data: PtData, padded: bool) -> None:
    """Of mixed hyperparameters, entering and leaving in the midst, beside one that diverges; more than 100 updates."""
    rates = [{}, {}, {}, {"learning_rate": 1e100}]
    stacked, alone = (
        [in_double(begin(model, data, number, **rate)) for number, rate in enumerate(rates)] for _ in range(2)
    )
    stack = PtStack(5, CPU)
    stack.padded = padded  # as on a GPU: all slots are computed, free ones too
    trained = [range(18), range(4, 18), range(9), range(7, 9)]  # epochs of each
    slots: dict[int, int] = {}
    for epoch in range(18):
        for number, epochs in enumerate(trained):
            if epoch == epochs.start:
                slots[number] = stack.put(stacked[number])
            if epoch == epochs.stop:
                stack.take(slots.pop(number))
        ends = stack.train_epoch(slots.values())
        assert ends.keys() == set(slots.values())
        for number, slot in slots.items():
            assert_same_end(ends[slot], train_alone(alone[number]))
            assert_same(stacked[number], alone[number])
        assert 3 not in slots or isinstance(ends[slots[3]], TrainingDiverged)
    assert alone[0].updates.made > 100
    for number in range(3):
        assert stacked[number].validate() == pytest.approx(alone[number].validate(), rel=1e-9, nan_ok=True)
        assert_same_end(train_alone(stacked[number]), train_alone(alone[number]))  # it goes on alone
        assert_same(stacked[number], alone[number])


def test_a_run_that_turns_bad_keeps_its_last_good_weights_and_its_neighbours_do_not_notice(data: PtData) -> None:
    """One bad event: each run meets it in another update. The others never do in their first epoch."""

    def poisoned(number: int, bad: bool) -> Any:
        training = in_double(begin("energy", data, number))
        if bad:
            training.truth_N = training.truth_N.clone()
            training.truth_N[7] = torch.inf
        return training

    stacked, alone = ([poisoned(number, bad=True) for number in range(3)] for _ in range(2))
    stack = PtStack(3, CPU)
    slots = [stack.put(training) for training in stacked]
    seen = set()
    for _ in range(3):
        ends = stack.train_epoch(slots)
        for number in range(3):
            assert_same_end(ends[slots[number]], end := train_alone(alone[number]))
            assert_same(stacked[number], alone[number])
            if isinstance(end, TrainingDiverged):
                seen.add(end.evidence["update"])
    assert len(seen) > 1
    assert all(torch.isfinite(weights(training)).all() for training in stacked)


def test_a_slot_that_is_not_named_does_not_change_by_a_bit(model: str, data: PtData) -> None:
    stacked = [begin(model, data, number) for number in range(3)]
    stack = PtStack(3, CPU)
    slots = [stack.put(training) for training in stacked]
    stack.train_epoch(slots)
    before = [numbers(training) for training in stacked]
    stack.train_epoch([slots[1]])
    same = [torch.equal(numbers(training), old) for training, old in zip(stacked, before, strict=True)]
    assert same == [True, False, True]
    assert [training.epoch for training in stacked] == [1, 2, 1]


def test_in_single_precision_scores_agree_too(model: str, data: PtData) -> None:
    stacked, alone = ([begin(model, data, number) for number in range(3)] for _ in range(2))
    stack = PtStack(3, CPU)
    slots = [stack.put(training) for training in stacked]
    for _ in range(6):
        ends = stack.train_epoch(slots)
        for number, training in enumerate(alone):
            assert ends[slots[number]] == pytest.approx(training.train_epoch(), rel=1e-3)
    for ours, theirs in zip(stacked, alone, strict=True):
        assert ours.validate()["resolution"] == pytest.approx(theirs.validate()["resolution"], rel=1e-3, nan_ok=True)


# ---------------------------------------------------------------- state


def saved(training: Any) -> Any:
    file = io.BytesIO()
    torch.save(training.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_checkpoint_of_a_stacked_run_goes_on_in_a_stack_bit_for_bit_and_alone(model: str, data: PtData) -> None:
    through = [begin(model, data, number) for number in range(3)]
    stack = PtStack(3, CPU)
    slots = [stack.put(training) for training in through]
    for _ in range(3):
        stack.train_epoch(slots)
    states = [saved(training) for training in through]

    resumed = [begin(model, data, number, seed=99) for number in range(3)]  # even the seed comes from the checkpoint
    for training, state in zip(resumed, states, strict=True):
        training.load_state(state)
    again = PtStack(3, CPU)
    entered = [again.put(training) for training in resumed]
    alone = begin(model, data, 1, seed=98)
    alone.load_state(states[1])
    for _ in range(2):
        first, second = stack.train_epoch(slots), again.train_epoch(entered)
        assert [first[slot] for slot in slots] == [second[slot] for slot in entered]
        assert first[slots[1]] == pytest.approx(alone.train_epoch(), rel=1e-3)
    for one, other in zip(through, resumed, strict=True):
        assert torch.equal(numbers(one), numbers(other))
        assert one.validate() == pytest.approx(other.validate(), rel=0, abs=0, nan_ok=True)
    assert (weights(through[1]) - weights(alone)).abs().max() < 1e-4


def test_a_run_may_take_another_state_while_it_is_in_its_slot(data: PtData) -> None:
    """Population based training copies the state of a better run."""
    stacked, alone = ([in_double(begin("energy", data, number)) for number in range(2)] for _ in range(2))
    stack = PtStack(2, CPU)
    slots = [stack.put(training) for training in stacked]
    stack.train_epoch(slots)
    for training in alone:
        training.train_epoch()
    for both in (stacked, alone):
        both[0].load_state(both[1].state())
    stack.train_epoch(slots)
    for ours, theirs in zip(stacked, alone, strict=True):
        theirs.train_epoch()
        assert_same(ours, theirs)


# ---------------------------------------------------------------- updates by themselves


def test_stacked_updates_are_those_of_updates() -> None:
    """With betas, decay and clipping of their own; the second network meets an infinite loss in update 6."""
    options: list[dict[str, Any]] = [
        {"betas": (0.5, 0.9), "weight_decay": 0.1},
        {"clip_norm": 0.05},
        {"betas": (0.8, 0.99), "clip_norm": 100.0, "weight_decay": 0.02},
    ]
    networks = [[nn.Linear(5, 3).double() for _ in options] for _ in range(2)]
    for one, other in zip(*networks, strict=True):
        other.load_state_dict(one.state_dict())
    alone, members = (
        [
            Updates(network, lambda update, place=place: 1e-2 / (1 + update + place), **options[place])
            for place, network in enumerate(each)
        ]
        for each in networks
    )
    stacked = StackedUpdates(members[0], 3)
    random = torch.Generator().manual_seed(0)
    for _ in range(3):  # epochs of 4 updates
        stacked.load(members, 4)
        losses, norms = torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
        for number in range(4):
            x = torch.randn((8, 5), generator=random).double()
            for place, updates in enumerate(alone):
                loss = updates.network(x).square().mean() * (torch.inf if (place, updates.made) == (1, 5) else 1.0)
                weight, bias = (part[place].clone().requires_grad_() for part in stacked.parameters)
                same = (x @ weight.T + bias).square().mean() * (torch.inf if (place, updates.made) == (1, 5) else 1.0)
                gradients = torch.autograd.grad(same, (weight, bias))
                stacked.gradient_KP[place] = torch.cat([part.flatten() for part in gradients])
                losses[number, place] = same.detach()
                updates.make(loss)
            stacked.prepare(number)
            with torch.no_grad():
                norms[number] = stacked.make(losses[number])
        stacked.save(members, losses, norms)
        for updates, member in zip(alone, members, strict=True):
            pairs = zip(updates.network.parameters(), member.network.parameters(), strict=True)
            assert all((one - other).abs().max() < 1e-12 for one, other in pairs)
            assert (updates.made, updates.steps, updates.lr) == (member.made, member.steps, member.lr)
    assert [updates.refused for updates in alone] == [updates.refused for updates in members] == [False, True, False]
    assert members[1].first_bad() == pytest.approx(alone[1].first_bad(), nan_ok=True)


class NothingIsAsked(TorchDispatchMode):
    """Refuse to tell the host a number: no program that asks could be recorded on a GPU and replayed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), func
        assert "nonzero" not in str(func), func
        return func(*args, **kwargs or {})


def test_an_update_asks_the_device_for_nothing_and_keeps_its_places(model: str, data: PtData) -> None:
    stack = PtStack(3, CPU)
    slots = [stack.put(begin(model, data, number)) for number in range(3)]
    stack.train_epoch(slots)
    program = stack._program
    assert program is not None
    program._updates._on_cpu = False  # as elsewhere

    def places() -> set[int]:
        holders = (program, program._updates, program._network)
        return {part.data_ptr() for one in holders for part in vars(one).values() if isinstance(part, torch.Tensor)}

    before = places()
    for draw in program._draw_KD:
        draw.random_(LOWEST, None)
    with NothingIsAsked(), torch.no_grad():
        program._update()
    assert places() == before


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize(
    "config",
    [
        {"width": 1, "depth": 1},
        {"width": 1, "depth": 5},
        {"batch_size": 100_000},  # more than there are events
        {"batch_size": 2, "width": 3},
        {"depth": 1},
        {"final_rate": 0.0, "epochs": 2},
        {"dropout": 0.999, "width": 3},
        {"dropout": 0.001},  # rounds to none
        {"peak_window": 0.0},
    ],
    ids=str,
)
def test_odd_shapes_and_values(model: str, data: PtData, config: dict[str, Any]) -> None:
    few = PtStack.excerpt(SMALL_OF[model], data, 2)
    stacked, alone = ([in_double(begin(model, few, number, **config)) for number in range(3)] for _ in range(2))
    stack = PtStack(3, CPU)
    slots = [stack.put(training) for training in stacked]
    for _ in range(2):
        ends = stack.train_epoch(slots)
        for number in range(3):
            assert_same_end(ends[slots[number]], train_alone(alone[number]))
            assert_same(stacked[number], alone[number])


SMALL_OF = {model: config(**SMALL) for model, (_, config) in MODELS.items()}


def test_a_stack_of_one_and_a_sample_of_one_event(data: PtData) -> None:
    one_event = PtStack.excerpt(PtEnergyConfig(**SMALL | {"batch_size": 2}), data, 1)
    one_event = replace(
        one_event,
        train=replace(one_event.train, **{name: column[:1] for name, column in vars(one_event.train).items()}),
    )
    stacked, alone = (in_double(begin("energy", one_event)) for _ in range(2))
    stack = PtStack(1, CPU)
    slot = stack.put(stacked)
    for _ in range(3):
        assert_same_end(stack.train_epoch([slot])[slot], train_alone(alone))
        assert_same(stacked, alone)


def test_all_may_diverge_and_new_ones_enter(data: PtData) -> None:
    stack = PtStack(2, CPU)
    slots = [stack.put(begin("energy", data, 3, seed=seed)) for seed in range(2)]
    assert all(isinstance(end, TrainingDiverged) for end in stack.train_epoch(slots).values())
    for slot in slots:
        stack.take(slot)
    fresh, alone = (in_double(begin("energy", data, 1)) for _ in range(2))
    slot = stack.put(fresh)
    assert_same_end(stack.train_epoch([slot])[slot], train_alone(alone))
    assert_same(fresh, alone)


def test_what_cannot_share_a_stack_is_refused(data: PtData) -> None:
    stack = PtStack(3, CPU)
    slot = stack.put(first := begin("energy", data))
    with pytest.raises(ValueError, match="already"):
        stack.put(first)
    for other in (begin("energy", data, width=8), begin("dphi", data)):
        with pytest.raises(ValueError, match="shape"):
            stack.put(other)
    with pytest.raises(ValueError, match="other events"):
        stack.put(begin("energy", simulate_combined_data(700, 2)))
    with pytest.raises(ValueError, match="free"):
        stack.train_epoch([slot, slot + 1])
    stack.put(begin("energy", data))
    stack.put(begin("energy", data))
    with pytest.raises(ValueError, match="all 3 slots"):
        stack.put(begin("energy", data))
    stack.take(slot)
    with pytest.raises(ValueError, match="free"):
        stack.take(slot)
    assert stack.put(begin("energy", data)) == slot
    assert stack.train_epoch([]) == {}


def test_runs_of_a_stack_share_the_events_of_training(data: PtData) -> None:
    stack, runs = PtStack(3, CPU), [begin("energy", data, number) for number in range(3)]
    for run in runs:
        stack.put(run)
    assert len({run.train_NF.data_ptr() for run in runs}) == 1


def test_a_shape_is_what_must_be_equal() -> None:
    plain = PtDphiConfig()
    assert PtStack.shape_of(plain) == PtStack.shape_of(
        PtDphiConfig(learning_rate=1.0, dropout=0.0, monotonic=False, epochs=3, seed=4)
    )
    others = [PtDphiConfig(width=8), PtDphiConfig(depth=1), PtDphiConfig(batch_size=8), PtEnergyConfig()]
    shapes = {PtStack.shape_of(config) for config in (plain, *others, PtEnergyConfig(features="full"))}
    assert len(shapes) == 6


# ---------------------------------------------------------------- how many slots


def test_the_measured_number_of_slots_is_one_that_memory_holds(data: PtData) -> None:
    config = PtEnergyConfig(width=8, batch_size=64)
    assert best_slots(PtEnergyTraining, config, data, CPU, seconds=0.05) in (1, 4, 8, 16, 32)
    assert slots_in_memory(PtStack, config, data, CPU) == [4, 8, 16, 32]
    assert slots_in_memory(PtStack, PtEnergyConfig(width=10_000_000), data, CPU) == []
    assert best_slots(PtEnergyTraining, PtEnergyConfig(width=10_000_000), data, CPU) == 1


def test_zdc_trains_alone(data: PtData) -> None:
    assert ZDCTraining.stack_type is None
    assert best_slots(ZDCTraining, PtEnergyConfig(), data, CPU) == 1
