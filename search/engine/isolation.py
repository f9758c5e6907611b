"""Run a search inside of somebody's process, and leave that process as it was: settings, loggers, warnings, signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from search.errors import SearchError

_settings_of_libraries: dict[str, str] = {}  # environment variables that our modules set when they were imported
_one_at_a_time = threading.Lock()


@contextmanager
def alone() -> Iterator[None]:
    """Refuse a second search in this process while the first one runs: they would share Ray, signals and loggers.

    Raises
    ------
    SearchError
        One is running, in another thread.
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise SearchError(
            "A search is running in this process, in another thread. Wait until it has ended, or start this one in a "
            "process of its own: python -m search.run WORKLOAD"
        )
    try:
        yield
    finally:
        _one_at_a_time.release()


@contextmanager
def undisturbed(*modules: str) -> Iterator[None]:
    """Leave the process as it was: environment, loggers, warnings filters, signal handlers, threads of torch.

    Parameters
    ----------
    modules : str
        Names of modules that are used inside: they are imported first, and what they set in the environment is set
        again each time.
    """
    with ExitStack() as kept:
        kept.enter_context(warnings.catch_warnings())
        kept.callback(_restore_environment, dict(os.environ))
        for name, value in _settings_of_libraries.items():
            os.environ.setdefault(name, value)
        _import(modules)
        kept.callback(_restore_loggers, _loggers())
        if threading.current_thread() is threading.main_thread():
            kept.callback(_restore_signals, _signals())
        if torch := sys.modules.get("torch"):
            kept.callback(torch.set_num_threads, torch.get_num_threads())
        yield


def _import(modules: Iterable[str]) -> None:
    """Import modules: remember what they set in the environment, and undo what they quieten."""
    before, new = dict(os.environ), "search.tracking.client" not in sys.modules
    levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")} if "mlflow" in sys.modules else {}
    for name in modules:
        import_module(name)
    _settings_of_libraries.update({name: value for name, value in os.environ.items() if name not in before})
    if new and (client := sys.modules.get("search.tracking.client")):
        for name, level in (client.LEVELS | levels).items():
            logging.getLogger(name).setLevel(level)


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _loggers() -> dict[logging.Logger, tuple[Any, ...]]:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        one: (one.level, [*one.handlers], one.propagate, one.disabled)
        for one in known
        if isinstance(one, logging.Logger)
    }


def _restore_loggers(before: dict[logging.Logger, tuple[Any, ...]]) -> None:
    for logger, (level, handlers, propagate, disabled) in before.items():
        if logger.level != level:
            logger.setLevel(level)
        logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, disabled


def _signals() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in signal.Signals}


def _restore_signals(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)
