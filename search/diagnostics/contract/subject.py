"""A workload under examination: its data as a trial receives them, small training runs, and runs to compare with."""

from __future__ import annotations

import pickle
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from search.diagnostics.contract import given
from search.diagnostics.contract.points import Drawn, draw
from search.diagnostics.contract.values import differences
from trainables.base.checkpoint import FIGURE_DATA
from trainables.base.errors import TrainingDiverged
from trainables.runtime.imports import modules_to_send

if TYPE_CHECKING:
    from search.workload import Data, Workload
    from trainables.base.training import Training
    from trainables.base.tune_adapter import EpochTrainable

EVENTS, BATCH, SEED = 250, 64, 3  # of simulated data; few events make short epochs
DRAWS = 60  # enough to meet each branch of a conditional space
_TRIED = 5  # points, until one of them trains without diverging
_CPU = torch.device("cpu")
_noise = count(1_000)


@dataclass(frozen=True)
class Ended:
    """A trial after its last epoch, and what it was then."""

    trial: EpochTrainable
    results: list[dict[str, Any]]  # of each epoch
    state: Any
    best_weights: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Report:
    """What a run has drawn."""

    folder: Path
    changed: list[str]  # weights that are others since


class Subject:
    """A workload, and what the checks have in common: most of them compare runs that begin at one point.

    Parameters
    ----------
    workload : Workload
    files : tuple of str
        Input files; none: the workload simulates its data.
    folder : Path
        For caches and reports.
    epochs : int
        Of each run: at least two, and a schedule's shape shows between its ends only.
    """

    def __init__(self, workload: Workload, folder: Path, files: tuple[str, ...] = (), epochs: int = 4) -> None:
        self.workload, self.files, self.folder, self.epochs = workload, files, folder, epochs
        self._weights: dict[str, dict[str, torch.Tensor]] = {}

    # ---------------------------------------------------------------- data

    def load(self) -> Data:
        """Load the files, or simulate data. Raises what the workload's own code raises."""
        simulate = given.simulation(self.workload)
        if self.files or simulate is None:
            settings = self.workload.settings(data=self.files).absolute()
            return self.workload.load_data(settings, self.folder / "cache")
        return simulate(EVENTS, 1)

    @cached_property
    def loaded(self) -> Data:
        return self.load()

    @cached_property
    def data(self) -> Any:
        """The data as a trial receives them through Ray: another object, whose arrays cannot be written to."""
        try:
            return as_received(self.loaded)
        except Exception:  # a check of its own finds that
            return self.loaded

    # ---------------------------------------------------------------- points

    @cached_property
    def drawn(self) -> list[Drawn]:
        """Points of the space, those with most hyperparameters first, because in them most of them act."""
        return sorted(draw(self.workload.suggest, DRAWS), key=lambda one: -len(one.point))

    @cached_property
    def base(self) -> Drawn:
        """The first point, small and short, at which a whole run does not diverge.

        Raises
        ------
        TrainingDiverged
            There is none among the first few.
        """
        for place, one in enumerate(self.drawn[:_TRIED], start=1):
            small = self._small(one)
            try:
                training = self.training(small.point)
                for _ in range(self.epochs):
                    training.train_epoch()
                    training.validate()
                return small
            except TrainingDiverged:
                if place == min(_TRIED, len(self.drawn)):
                    raise
        raise AssertionError("no point was drawn")

    def with_range(self, name: str) -> Drawn | None:
        """Return a point in which a hyperparameter is searched: the base where it is."""
        candidates = [self.base, *map(self._small, self.drawn)]
        return next((one for one in candidates if name in one.ranges and name in one.point), None)

    def _small(self, drawn: Drawn) -> Drawn:
        few = {} if self.files else {"batch_size": BATCH}
        small = {**given.small(self.workload), **few, "epochs": self.epochs, "seed": SEED}
        known = self.workload.config.model_fields
        return Drawn({**drawn.point, **{name: small[name] for name in small if name in known}}, drawn.ranges)

    # ---------------------------------------------------------------- runs, one after the other

    def training(self, point: Mapping[str, Any] | None = None, device: torch.device = _CPU, **changed: Any) -> Training:
        """Begin a run at a point, or at the base, with some hyperparameters changed.

        Runs must not take turns: what a run takes from the generators of the process is its own until it ends.
        """
        point = self.base.point if point is None else point
        disturb_random_state()
        return self.workload.training(self.workload.config(**{**point, **changed}), self.data, device)

    def trained(self, epochs: int, point: Mapping[str, Any] | None = None, **changed: Any) -> Training:
        """Train a new run."""
        return train(self.training(point, **changed), epochs)

    def trained_weights(self, point: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the weights after all epochs; each point is trained once."""
        key = repr(sorted(point.items()))
        if key not in self._weights:
            self._weights[key] = self.trained(self.epochs, point).weights()
        return self._weights[key]

    @cached_property
    def first_epoch(self) -> tuple[Any, Any]:
        """What ``train_epoch`` and ``validate`` return in the first epoch."""
        training = self.training()
        return training.train_epoch(), training.validate()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics of the first epoch."""
        trained, validated = self.first_epoch
        return {**trained, **validated}

    def trial(self, **changed: Any) -> EpochTrainable:
        """Begin a trial as Ray Tune would, without a cluster."""
        from trainables.base.tune_adapter import EpochTrainable, Machine

        subject = self

        class Alone(EpochTrainable):
            def _setup_logdir(self) -> None:  # Ray's own makes a folder in the user's home
                self._logdir = str(subject.folder)

            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(
                    config,
                    training=subject.workload.training,
                    training_config=subject.workload.config,
                    data=subject.data,
                    goal=given.goal(subject.workload),
                    machine=Machine(threads=1, device="cpu"),
                )

        configuration = {"hyperparameters": {**self.base.point, **changed}}
        disturb_random_state()
        return Alone(configuration)

    @cached_property
    def ended(self) -> Ended:
        """A whole trial after its last epoch."""
        trial = self.trial()
        results = [trial.step() for _ in range(self.epochs)]
        return Ended(trial, results, self.stored(trial.run.training.state()), trial.run.best["weights"])

    @cached_property
    def report(self) -> Report:
        """The report of a whole run."""
        training, folder = self.trained(self.epochs), Path(tempfile.mkdtemp(dir=self.folder))
        training.validate()
        before = training.weights()
        training.write_tables(folder)
        if (folder / FIGURE_DATA).exists():
            training.draw_report(folder)
        return Report(folder, differences(before, training.weights()))

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """Lend a folder."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def stored(self, state: Any) -> Any:
        """Return a state as it comes back from a checkpoint."""
        with self.new_folder() as folder:
            torch.save(state, folder / "state.pt")
            return torch.load(folder / "state.pt", map_location="cpu", weights_only=True)


def train(training: Training, epochs: int) -> Training:
    """Train a run further."""
    for _ in range(epochs):
        training.train_epoch()
    return training


def as_received(data: Any) -> Any:
    """Return data as a worker of Ray receives them: arrays lie in shared memory that is read-only."""
    from ray import cloudpickle

    for module in modules_to_send():  # as a search does
        cloudpickle.register_pickle_by_value(module)
    buffers: list[pickle.PickleBuffer] = []
    payload = cloudpickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(payload, buffers=[bytes(buffer.raw()) for buffer in buffers])


def disturb_random_state() -> None:
    """Put the generators of the process into a state that no run has seen, as in another process."""
    seed = next(_noise)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that a user's code may draw from
    torch.manual_seed(seed)


@contextmanager
def process_left_as_it_was() -> Iterator[None]:
    """Train on one thread, as a trial of one CPU does; put the caller's threads and random state back."""
    threads, of_python, of_numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
