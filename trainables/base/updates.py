"""One network's updates: Adam at scheduled rates, gradients perhaps clipped, and no update that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class GuardedAdam(torch.optim.AdamW):
    """Fused Adam that changes nothing while ``found_inf`` is 1, without asking the device whether it is.

    Weight decay is decoupled from the gradient (arXiv:1711.05101); at 0 it is Adam bit for bit.
    """

    found_inf: Tensor


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
        self._clip_norm = float("inf") if clip_norm is None else clip_norm
        self._own = {"betas": betas, "weight_decay": weight_decay}
        self._optimizer = GuardedAdam(network.parameters(), fused=True, **self._own)  # type: ignore[arg-type]
        device = next(network.parameters()).device
        self._optimizer.found_inf = torch.zeros((), device=device)
        self._first_bad_3 = torch.zeros(3, device=device)

    @property
    def lr(self) -> float:
        """Rate of the last update made; before the first, that of the first."""
        return self._rate_of(max(self.made - 1, 0))

    def make(self, loss: Tensor) -> None:
        """Make one update. From the first loss or gradient that is not finite on, every update is refused."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._clip_norm)
        self._guard(loss.detach(), norm)
        self.made += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr
        self._optimizer.step()

    def first_bad(self) -> dict[str, float] | None:
        """Return number, loss and gradient norm of the first refused update, or None. Waits for the device."""
        if not self._optimizer.found_inf.item():
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

    def _guard(self, loss: Tensor, norm: Tensor) -> None:
        """Keep evidence of the first bad update on the device, because reading it at each update would stall a GPU."""
        found_inf = self._optimizer.found_inf
        bad = ~torch.isfinite(loss + norm)
        evidence_3 = torch.stack((torch.full_like(loss, self.made + 1), loss, norm))
        self._first_bad_3 = torch.where(bad & (found_inf == 0), evidence_3, self._first_bad_3)
        self._optimizer.found_inf = torch.maximum(found_inf, bad.float())
