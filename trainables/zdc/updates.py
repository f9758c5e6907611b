"""One network's updates: Adam at the rate of its own cycle, clipped, and refused when not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.zdc.config import ZDCConfig
from trainables.zdc.schedule import one_cycle_lr

BETAS = (
    0.5,
    0.9,
)  # ours: little momentum, as is usual where two networks chase each other (arXiv:1511.06434)


class GuardedAdam(torch.optim.Adam):
    """Fused Adam that changes nothing while ``found_inf`` is 1, without asking the device whether it is."""

    found_inf: Tensor


class Updates:
    """Optimizer, learning-rate cycle and guard of one network.

    Parameters
    ----------
    max_lr : float
        Peak of the network's OneCycleLR.
    total_updates : int
        Updates of this network in the whole run; its cycle ends with the last of them.
    """

    def __init__(self, network: nn.Module, config: ZDCConfig, max_lr: float, total_updates: int) -> None:
        self.network = network
        self.made = 0
        self._config = config
        self._max_lr = max_lr
        self._total = total_updates
        self._optimizer = GuardedAdam(network.parameters(), betas=BETAS, fused=True)
        device = next(network.parameters()).device
        self._optimizer.found_inf = torch.zeros((), device=device)
        self._first_bad_3 = torch.zeros(3, device=device)

    @property
    def lr(self) -> float:
        """Rate of the last update made; before the first, of the first."""
        return one_cycle_lr(max(self.made - 1, 0), self._total, self._max_lr, self._config.pct_start)

    def make(self, loss: Tensor) -> None:
        """One update. From the first loss or gradient that is not finite on, every update is refused."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._config.gradient_clip_norm)
        self._guard(loss.detach(), norm)
        self.made += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr
        self._optimizer.step()

    def first_bad(self) -> dict[str, float] | None:
        """Update, loss and gradient norm of the first refused update, or None. Waits for the device."""
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
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.made = state["made"]

    def _guard(self, loss: Tensor, norm: Tensor) -> None:
        """Keep evidence of the first bad update on the device: asking at each update would stall a GPU."""
        found_inf = self._optimizer.found_inf
        bad = ~torch.isfinite(loss + norm)
        evidence_3 = torch.stack((torch.full_like(loss, self.made + 1), loss, norm))
        self._first_bad_3 = torch.where(bad & (found_inf == 0), evidence_3, self._first_bad_3)
        self._optimizer.found_inf = torch.maximum(found_inf, bad.float())
