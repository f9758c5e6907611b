"""A user's networks without their training: built from a configuration, predicting, and made again from weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.base.built import Built, take
from trainables.base.plain_state import cpu_copies
from trainables.base.predicting import evaluating, in_parts
from trainables.base.random_state import own_random, seed_of
from trainables.base.shapes import WithoutData, shapes_of, without_shapes

PRECISIONS = ("fp32", "bf16")


class TorchModel(ABC):
    """Networks that ``build()`` makes, where there are data and where there are none.

    ``build()`` sees no data, because a promoted model is loaded where there are none: sizes come from ``self.config``
    and ``self.shapes``, and what is computed from data is put into buffers of a network by ``prepare()``.
    """

    config: Any
    device: torch.device
    epoch: int
    network: Any  # of several: a torch.nn.ModuleDict of them, self.network["generator"]

    precision = "fp32"  # or bf16: loss, score and predict run under autocast; a field of the configuration counts more
    predict_batch = 8192  # events at a time in predict()

    def __init__(self, config: Any, data: Any, device: torch.device) -> None:
        self.config, self.device, self.epoch = config, torch.device(device), 0
        self._data, self._building, self._asked_shapes = data, False, False
        self._precision = getattr(config, "precision", self.precision)
        if self._precision not in PRECISIONS:
            raise ValueError(f"precision {self._precision!r} is not one of {', '.join(PRECISIONS)}")
        self._construct()
        if not isinstance(data, WithoutData):
            with own_random(seed_of(config.seed, "build", 1), self.device), torch.no_grad():
                self.prepare()

    # ---------------------------------------------------------------- what the user gives

    @abstractmethod
    def build(self) -> Any:
        """Return ``(network, optimizer)`` or ``(network, optimizer, scheduler)``; several of each as dicts by name.

        Weights are drawn from the configuration's seed on the CPU, and everything is moved to the device afterwards.
        """

    def prepare(self) -> None:  # noqa: B027 - few models need it
        """Fill buffers of the networks from ``self.data.train`` before the first epoch: means, widths, biases."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Return what ``predict`` predicts for one mini-batch: a tensor, or a tuple or dict of tensors."""
        return self.network(*inputs, **named)

    # ---------------------------------------------------------------- what the platform gives

    @property
    def data(self) -> Any:
        """Data of the trial: ``train`` and ``validation`` are arrays by name. Not there in ``build()``."""
        if self._building or isinstance(self._data, WithoutData):
            raise RuntimeError(
                f"{type(self).__name__} reads self.data where there may be none (build() also runs where a promoted"
                " model is loaded): take sizes from self.shapes, the shape of one event of each array, and put what is"
                " computed from data into buffers of a network in prepare()"
            )
        return self._data

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of one event of each array; where ``build()`` reads them, they are kept with the weights."""
        self._asked_shapes = True
        return shapes_of(self._data)

    def _arrays(self, part: str) -> Mapping[str, NDArray[Any]]:
        """Return the arrays by name of ``train`` or ``validation``; none where the data are of another kind."""
        arrays = getattr(self._data, part, None)
        return arrays if isinstance(arrays, Mapping) else {}

    def predict(self, *inputs: Any, **named: Any) -> Any:
        """Predict in eval mode, without gradients, some events at a time: arrays in, arrays out.

        What ``forward`` returns as a tuple or dict comes back as one. Neither the weights, nor their modes, nor any
        random state change. A model that draws noise draws the same one each time.
        """
        seed = seed_of(self.config.seed, "predict")
        with own_random(seed, self.device), evaluating(self.network), self._autocast():
            return in_parts(self.forward, self.network, (inputs, named), self.device, self.predict_batch)

    def weights(self) -> dict[str, Tensor]:
        """Return CPU copies of the networks' ``state_dict``; of several networks with their names before a dot."""
        shapes = shapes_of(self._data).as_tensors() if self._asked_shapes else {}
        return cpu_copies(self.network.state_dict()) | shapes

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights that ``weights()`` of a model of the same configuration returned."""
        self.network.load_state_dict(without_shapes(weights))

    @classmethod
    def from_weights(cls, config: Any, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> Self:
        """Make a model that predicts and scores, from its configuration and weights alone; it cannot be trained."""
        model = cls(config, WithoutData(weights), torch.device(device))
        model.load_weights(weights)
        model.network.eval()
        return model

    def _construct(self) -> Built:
        """Build everything anew, with the same initial weights each time."""
        self._building = True
        try:
            with own_random(seed_of(self.config.seed, "build"), self.device):
                built = take(self.build(), self.device)
        finally:
            self._building = False
        self.network = built.network
        return built

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16")
