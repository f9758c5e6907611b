"""The multilayer perceptrons of several pT models of one shape: forward and backward in one pass of all."""

# K networks, R rows of each (a batch B, then perhaps a probe), F features, W width, O outputs and I inputs of a layer

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_through_relu = torch.ops.aten.threshold_backward.grad_input


class StackedNetwork:
    """K networks of the form of ``PtNetwork``: pT (K, R) of features (K, R, F), and the gradients of all parameters.

    The backward pass is written out: autograd takes longer for a small network than its arithmetic. Everything that
    is as large as a layer is kept from one update to the next.

    Parameters
    ----------
    parameters : sequence of Tensor
        (K, ...) each, in the order of ``PtNetwork.parameters()``: weight and bias of each hidden layer, of the head.
    rows, batch : int
        R and B: dropout leaves out neurons of the first B rows alone.
    """

    def __init__(self, parameters: Sequence[Tensor], rows: int, batch: int) -> None:
        self.weights_KOI, self.biases_K1O = parameters[0::2], [bias.unsqueeze(1) for bias in parameters[1::2]]
        members, _, inputs = self.weights_KOI[0].shape
        self.batch = batch
        new = parameters[0].new_empty
        self.input_KRF = new((members, rows, inputs)).zero_()
        self.change_KR = new((members, rows)).zero_()
        self._active_KRW = [new((members, rows, weight.shape[1])) for weight in self.weights_KOI]
        self._change_KRW = [torch.empty_like(self._active_KRW[0]) for _ in range(2)]  # of a layer and the one below
        self._gradients = [torch.empty_like(part) for part in parameters]
        self._first_KFO = new((members, inputs, parameters[0].shape[1]))
        self._factor_KLBW: Tensor | None = None

    def forward(self, factor_KLBW: Tensor | None) -> Tensor:
        """Return pT (K, R) of ``input_KRF``; neurons of the batch are multiplied by a factor, where it is given."""
        self._factor_KLBW = factor_KLBW
        below_KRW, last = self.input_KRF, len(self.weights_KOI) - 1
        for number, (weight_KOI, bias_K1O) in enumerate(zip(self.weights_KOI, self.biases_K1O, strict=True)):
            active_KRW = self._active_KRW[number]
            torch.baddbmm(bias_K1O, below_KRW, weight_KOI.transpose(1, 2), out=active_KRW)
            if number < last:
                active_KRW.relu_()
                if factor_KLBW is not None:
                    active_KRW[:, : self.batch].mul_(factor_KLBW[:, number])
            below_KRW = active_KRW
        return below_KRW.squeeze(2)

    def backward(self, gradient_KP: Tensor) -> None:
        """Write the gradients of all parameters, given ``change_KR``, that of the loss by ``forward``'s pT."""
        change_KRO = self.change_KR.unsqueeze(2)
        for number in range(len(self.weights_KOI) - 1, 0, -1):
            torch.sum(change_KRO, dim=1, out=self._gradients[2 * number + 1])
            torch.bmm(change_KRO.transpose(1, 2), self._active_KRW[number - 1], out=self._gradients[2 * number])
            change_KRO = self._through(number, change_KRO)
        torch.sum(change_KRO, dim=1, out=self._gradients[1])
        # of few features: the product whose rows are long is several times as fast
        torch.bmm(self.input_KRF.transpose(1, 2), change_KRO, out=self._first_KFO)
        self._gradients[0].copy_(self._first_KFO.transpose(1, 2))
        torch.cat([part.flatten(1) for part in self._gradients], dim=1, out=gradient_KP)

    def _through(self, number: int, change_KRO: Tensor) -> Tensor:
        """Carry the change of layer ``number`` back through its weights, and through dropout and ReLU below it."""
        change_KRW, active_KRW = self._change_KRW[number % 2], self._active_KRW[number - 1]
        torch.bmm(change_KRO, self.weights_KOI[number], out=change_KRW)
        if self._factor_KLBW is not None:
            change_KRW[:, : self.batch].mul_(self._factor_KLBW[:, number - 1])
        _through_relu(change_KRW, active_KRW, 0, grad_input=change_KRW)
        return change_KRW
