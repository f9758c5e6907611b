"""What Ray Tune holds of a trial that is trained in a stack: it forwards, and needs neither torch nor a core."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from trainables.base.checkpoint import BEST_FILE, STATE_FILE
from trainables.base.tune_adapter import PatientTrainable
from trainables.runtime.disk_space import Patience

_BACK_S = 300.0  # in which a server that died comes back, and a slot gets free
_LOOK_EVERY_S = 0.2


class StackedTrial(PatientTrainable):
    """One trial whose run is in a slot of a server.

    Where its server dies, or does not have its run any more, it fails with that error. Tune then starts it again from
    its checkpoint, like any trial whose process died.
    """

    def setup(self, config: dict[str, Any], *, servers: Sequence[Any], patience: Patience) -> None:
        self._servers, self._patience, self._checkpoint_bytes = servers, patience, 0
        self._server: Any = None
        self._joined = ""  # the trial that this one was until now
        self._finished = False
        self.start(config)

    def start_fresh(self, config: dict[str, Any]) -> None:
        before, self._joined, self._finished = self._joined, str(self.trial_id), False
        deadline = time.monotonic() + _BACK_S
        first = int(config["number"]) % len(self._servers)
        turn = [*self._servers[first:], *self._servers[:first]]
        if self._server is not None:  # it has a slot there
            turn = [self._server, *(server for server in turn if server is not self._server)]
        while True:
            for server in turn:
                with suppress(RayActorError):  # it is being started again
                    if self._ask_of(server, "join", config["hyperparameters"], before):
                        self._server = server
                        return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no server of stacks had a free slot within {_BACK_S / 60:.0f} min")
            time.sleep(_LOOK_EVERY_S)

    @property
    def finished(self) -> bool:
        return self._finished

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Be another trial from now on."""
        self.start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = self._ask_of(self._server, "step")
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        for name, content in self._ask_of(self._server, "save").items():
            file = Path(checkpoint_dir, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        files = {name: Path(checkpoint_dir, name).read_bytes() for name in (STATE_FILE, BEST_FILE)}
        self._finished = bool(self._ask_of(self._server, "load", files))

    def cleanup(self) -> None:
        if self._server is not None:
            with suppress(RayError):
                self._server.leave.remote(self._joined)

    def _ask_of(self, server: Any, what: str, *arguments: Any) -> Any:
        """Call a server for this trial; what it raises is raised here as it was there."""
        try:
            return ray.get(getattr(server, what).remote(self._joined, *arguments))
        except RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error
            raise
