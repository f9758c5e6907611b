"""The platform: searches, their trials and their records. Knows no physics. ``import search`` offers it from Python."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import trainables  # noqa: F401 - first: it turns the telemetry of dependencies off

# Where each name is defined. It is imported when it is asked for, because commands and --help should start at once.
_HOMES = {
    "search.api": ("interrupt", "load", "promote", "run"),
    "search.engine.results": ("ChainRun", "SearchRun"),
    "search.engine.trial_result": ("TrialResult",),
    "search.errors": ("ClusterError", "NameTakenError", "SearchError", "TrackingError", "UsageError"),
    "search.workload": ("Chain", "Data", "DefaultPromotion", "Defaults", "Promotion", "Tolerance", "Workload"),
    "trainables.base.errors": ("DataError", "TrainingDiverged"),
    "trainables.base.lightning_training": ("LightningTraining",),
    "trainables.base.objectives": ("Constraint",),
    "trainables.base.torch_training": ("TorchTraining",),
    "trainables.base.training": ("TrainedModel", "Training", "TrainingConfig"),
    "trainables.data.files": ("DataSettings",),
    "trainables.data.file_reader": ("FileReader",),
    "trainables.data.ingest": ("FileKind",),
    "trainables.data.table_loader": ("TableLoader",),
    "trainables.data.tables": ("read_table",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from search.api import interrupt as interrupt
    from search.api import load as load
    from search.api import promote as promote
    from search.api import run as run
    from search.engine.results import ChainRun as ChainRun
    from search.engine.results import SearchRun as SearchRun
    from search.engine.trial_result import TrialResult as TrialResult
    from search.errors import ClusterError as ClusterError
    from search.errors import NameTakenError as NameTakenError
    from search.errors import SearchError as SearchError
    from search.errors import TrackingError as TrackingError
    from search.errors import UsageError as UsageError
    from search.workload import Chain as Chain
    from search.workload import Data as Data
    from search.workload import DefaultPromotion as DefaultPromotion
    from search.workload import Defaults as Defaults
    from search.workload import Promotion as Promotion
    from search.workload import Tolerance as Tolerance
    from search.workload import Workload as Workload
    from trainables.base.errors import DataError as DataError
    from trainables.base.errors import TrainingDiverged as TrainingDiverged
    from trainables.base.lightning_training import LightningTraining as LightningTraining
    from trainables.base.objectives import Constraint as Constraint
    from trainables.base.torch_training import TorchTraining as TorchTraining
    from trainables.base.training import TrainedModel as TrainedModel
    from trainables.base.training import Training as Training
    from trainables.base.training import TrainingConfig as TrainingConfig
    from trainables.data.file_reader import FileReader as FileReader
    from trainables.data.files import DataSettings as DataSettings
    from trainables.data.ingest import FileKind as FileKind
    from trainables.data.table_loader import TableLoader as TableLoader
    from trainables.data.tables import read_table as read_table


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


class _Command(ModuleType):
    """The module of a command, ``search.run`` or ``search.promote``, which is called as the function of that name."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return getattr(import_module("search.api"), self.__name__.rpartition(".")[2])(*arguments, **keywords)


class _Package(ModuleType):
    """This package: a command's module that is imported takes the place of the function, and must do its work."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES["search.api"] and isinstance(value, ModuleType):
            value.__class__ = _Command
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
