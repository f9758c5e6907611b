"""The base class of what proposes trials to Ray Tune: how many run at a time, and no state but that on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

if TYPE_CHECKING:
    from search.tuning.concurrency import ConcurrencyLimit, SlotLimit

FINISHED = str(Searcher.FINISHED)  # what ``suggest`` returns when there is nothing more to propose


class Proposer(Searcher):  # type: ignore[misc]
    """A Tune searcher whose state is in the files of the search; a subclass defines ``suggest`` and ``left``."""

    limit: ConcurrencyLimit | SlotLimit | None = None  # None: propose a trial whenever Tune asks for one

    @property
    def left(self) -> int:
        """Number of trials still to be run."""
        raise NotImplementedError

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # the study has its own directions; Tune uses metric and mode for the scheduler

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return self.limit is not None  # then Tune leaves it to us: see ``suggest``

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: study and event log are on disk after every call, newer than any snapshot of Tune's."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Do nothing: see ``save_to_dir``."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher once at the start
