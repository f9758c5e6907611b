"""One network's updates: Adam at scheduled rates, gradients perhaps clipped, and no update that is not finite."""

# P tensors of parameters of the network

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


class GuardedAdam(torch.optim.AdamW):
    """Fused Adam that changes nothing while ``found_inf`` is 1, without asking the device whether it is.

    Weight decay is decoupled from the gradient (arXiv:1711.05101); at 0 it is Adam bit for bit. ``update`` is ``step``
    without what ``step`` looks up each time, which takes several times as long as Adam itself for a small network.
    """

    def __init__(self, parameter_P: list[nn.Parameter], **options: Any) -> None:
        super().__init__(parameter_P, fused=True, **options)
        self.found_inf = torch.zeros((), device=parameter_P[0].device)
        self._tensors: tuple[list[Tensor], ...] = ()  # of all parameters: themselves, both averages, numbers of steps

    def update(self, gradients: list[Tensor], lr: float) -> None:
        """Make one update at this rate from all gradients that the parameters hold, in their order."""
        (group,) = self.param_groups
        group["lr"] = lr
        complete = len(gradients) == len(group["params"])
        if complete and not self._tensors and len(self.state) == len(gradients):
            states_P = [self.state[parameter] for parameter in group["params"]]
            columns = ([state[name] for state in states_P] for name in ("exp_avg", "exp_avg_sq", "step"))
            self._tensors = (group["params"], *columns)
        # the very first update, a parameter without influence on the loss, or somebody who counts updates
        if not complete or not self._tensors or self._is_watched:
            self.step()
            return
        parameter_P, average_P, square_P, step_P = self._tensors
        beta1, beta2 = group["betas"]
        with torch.no_grad():
            torch._foreach_add_(step_P, 1)
            torch._fused_adamw_(
                parameter_P,
                gradients,
                average_P,
                square_P,
                [],
                step_P,
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                found_inf=self.found_inf,
            )
            torch._foreach_sub_(step_P, [self.found_inf] * len(step_P))

    @property
    def _is_watched(self) -> bool:
        """Whether hooks wait for a ``step``: those of all optimizers, as the sizing of trials has, or of this one."""
        of_all = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
        return bool(of_all or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._tensors = ()  # they were replaced


class Updates:
    """Optimizer, learning rate and guard of one network.

    Parameters
    ----------
    rate_of : function of int
        Learning rate of update 0, 1, ...; pure, so that a resumed run restores nothing.
    betas : two floats
        Of Adam.
    weight_decay : float
        Share of each weight taken off per update and learning rate.
    clip_norm : float or None
        Largest gradient norm of an update; None: not clipped.
    """

    def __init__(
        self,
        network: nn.Module,
        rate_of: Callable[[int], float],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        self.network = network
        self.made = 0
        self._rate_of = rate_of
        self._clip_norm = clip_norm
        self._own = {"betas": betas, "weight_decay": weight_decay}
        self._parameter_P = list(network.parameters())
        self._optimizer = GuardedAdam(self._parameter_P, **self._own)
        device = self._parameter_P[0].device
        self._number = torch.zeros((), device=device)  # of updates, there
        self._first_bad_3 = torch.zeros(3, device=device, dtype=self._parameter_P[0].dtype)

    @property
    def lr(self) -> float:
        """Rate of the last update made; before the first, that of the first."""
        return self._rate_of(max(self.made - 1, 0))

    def make(self, loss: Tensor) -> None:
        """Make one update. From the first loss or gradient that is not finite on, every update is refused."""
        for parameter in self._parameter_P:
            parameter.grad = None
        torch.autograd.backward(loss)
        gradients = [parameter.grad for parameter in self._parameter_P if parameter.grad is not None]
        with torch.no_grad():
            self._guard(loss, gradients)
        self.made += 1
        self._optimizer.update(gradients, self.lr)

    # ------------------------------------------------------------ of a stack, which makes the updates of several

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self._parameter_P

    @property
    def options(self) -> dict[str, Any]:
        """Betas, weight decay and epsilon."""
        (group,) = self._optimizer.param_groups
        return {name: group[name] for name in ("betas", "weight_decay", "eps")}

    @property
    def clip_norm(self) -> float | None:
        return self._clip_norm

    @property
    def refused(self) -> bool:
        """Whether an update was refused, and all since. Waits for the device."""
        return bool(self._optimizer.found_inf.item())

    def rates(self, updates: int) -> list[float]:
        """Return the rates of the next updates."""
        return [self._rate_of(self.made + update) for update in range(updates)]

    def moments(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the averages of gradients and of their squares, as the optimizer holds them; 0 before any update."""
        for parameter in self._parameter_P:
            if parameter not in self._optimizer.state:
                zeros = {name: torch.zeros_like(parameter.detach()) for name in ("exp_avg", "exp_avg_sq")}
                self._optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device)} | zeros
        averages, squares = (
            [self._optimizer.state[parameter][name] for parameter in self._parameter_P]
            for name in ("exp_avg", "exp_avg_sq")
        )
        return averages, squares

    @property
    def steps(self) -> int:
        """Updates that reached the weights. Waits for the device."""
        states = self._optimizer.state.values()
        return int(next(iter(states))["step"].item()) if states else 0

    def count(self, updates: int, good: int, bad: tuple[float, float] | None) -> None:
        """Count updates that a stack made: how many, how many before the first bad one, its loss and gradient norm."""
        if not self.refused:
            steps = self.steps + good
            for state in self._optimizer.state.values():
                state["step"].fill_(steps)
            if bad is not None:
                evidence = (self.made + good + 1, *bad)
                self._first_bad_3.copy_(torch.tensor(evidence, dtype=self._first_bad_3.dtype))
                self._optimizer.found_inf.fill_(1)
        self.made += updates
        self._number.fill_(self.made)
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr

    def first_bad(self) -> dict[str, float] | None:
        """Return number, loss and gradient norm of the first refused update, or None. Waits for the device."""
        if not self.refused:
            return None
        return dict(zip(("update", "loss", "gradient_norm"), self._first_bad_3.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "made": self.made,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from ``state()`` of a run of the same network, at this run's own rates and weight decay."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group |= self._own
        self.made = state["made"]
        self._number.fill_(self.made)

    def _guard(self, loss: Tensor, gradients: list[Tensor]) -> None:
        """Clip, and keep evidence of the first bad update on the device: to read it each time would stall a GPU."""
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self._clip_norm is not None:
            torch._foreach_mul_(gradients, (self._clip_norm / (norm + 1e-6)).clamp(max=1))
        found_inf = self._optimizer.found_inf
        evidence_3 = torch.stack((self._number.add_(1), loss, norm))
        torch.where(found_inf == 0, evidence_3, self._first_bad_3, out=self._first_bad_3)
        found_inf.logical_or_((loss + norm).mul_(0))  # 0 unless one is not finite: then NaN, which counts as true
