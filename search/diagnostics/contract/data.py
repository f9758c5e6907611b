"""Laws of the data, and of what is sent to the processes that run trials."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, NotGiven, law
from search.diagnostics.contract.subject import EVENTS, Subject, as_received
from search.errors import UsageError
from trainables.base.errors import DataError

DATA = "the-data-describe-themselves"


@law(
    "Data can be loaded, and have a fingerprint, a summary and the version of their objectives.",
    cause="the loader returns arrays alone, or a property is missing",
    remedy="give the data `fingerprint` (str), `objective_version` (str) and `summary` (a sequence of str), or give "
    "the workload `load` in place of `load_data`",
)
def the_data_describe_themselves(subject: Subject) -> None:
    try:
        data = subject.loaded
    except DataError as error:
        if subject.files:  # then it is the files that are wrong
            raise UsageError(str(error)) from error
        raise
    for name in ("fingerprint", "objective_version"):
        value = getattr(data, name, None)
        if not isinstance(value, str) or not value:
            raise LawBroken(f"{name} of the data is {value!r}, not a text")
    summary = getattr(data, "summary", None)
    if isinstance(summary, str) or not isinstance(summary, Sequence) or not all(isinstance(x, str) for x in summary):
        raise LawBroken(f"summary of the data is {summary!r}, not a sequence of texts")


@law(
    "Equal data have equal fingerprints, other data another.",
    cause="the fingerprint is a constant, or holds what changes at each call: an address, the time, an unseeded number",
    remedy="make the fingerprint a hash of everything that the arrays depend on, and draw all random numbers from "
    "numpy.random.default_rng(seed)",
    after=(DATA,),
)
def the_fingerprint_is_that_of_the_data(subject: Subject) -> None:
    first = subject.loaded.fingerprint
    if subject.load().fingerprint != first:
        raise LawBroken(f"loading again gives another fingerprint than {first!r}")
    simulate = given.simulation(subject.workload)
    if simulate is None or subject.files:
        return
    if simulate(EVENTS, 2).fingerprint == first:
        raise LawBroken(f"simulate_data with seed 1 and with seed 2 have the fingerprint {first!r}")


@law(
    "The data and the classes of the workload can be sent to another process.",
    cause="an open file, a lock, a generator, a lambda or a database connection is an attribute of the data, or is "
    "used by a class that is defined within a function",
    remedy="store arrays, numbers and names of files, and open files where they are read; define classes at the top "
    "of their module",
    after=(DATA,),
)
def all_can_be_sent_to_another_process(subject: Subject) -> None:
    workload = subject.workload
    sent: dict[str, Any] = {"the data": subject.loaded, "the training": workload.training}
    for what, value in (sent | {"the configuration": workload.config}).items():
        try:
            received = as_received(value)
        except (TypeError, ValueError, AttributeError, RuntimeError, pickle.PicklingError, OSError) as error:
            raise LawBroken(f"{what} cannot be pickled: {' '.join(str(error).split())}") from error
        if what == "the data" and received.fingerprint != subject.loaded.fingerprint:
            raise LawBroken("the data have another fingerprint after they were sent")


@law(
    "A file that is not there ends a search before any trial, with an error that names the file.",
    cause="load_data does not look at settings.data, or lets the error of a library through",
    remedy="raise DataError with the name of the file, what was expected and what to do",
    after=(DATA,),
)
def an_absent_file_is_a_data_error(subject: Subject) -> None:
    workload = subject.workload
    suffix = subject.files[0].rpartition(".")[2] if subject.files else "root"
    name = f"absent.{suffix}"
    with subject.new_folder() as folder:
        settings = workload.settings(data=(str(folder / name),))
        try:
            workload.load_data(settings, folder / "cache")
        except DataError as error:
            if name not in str(error):
                raise LawBroken(f"the DataError does not name {name}: {error}") from error
            return
        except OSError as error:
            raise LawBroken(f"{type(error).__name__} in place of a DataError: {error}") from error
    raise LawBroken(f"data were loaded from {name}, which does not exist")


@law(
    "Naive predictors have finite values of every objective and constraint.",
    cause="baselines() scores other metrics than validate() does",
    remedy="score the naive predictors with the same function as the trials",
    after=(DATA,),
)
def naive_predictors_are_scored_like_trials(subject: Subject) -> None:
    workload = subject.workload
    scores = dict(workload.baselines(subject.data)) | dict(workload.references(subject.data))
    if not scores:
        raise NotGiven("the workload gives no naive predictors")
    for label, metrics in workload.baselines(subject.data).items():
        for name in given.scored(workload):
            if name not in metrics:
                raise LawBroken(f"naive predictor {label!r} has no {name}; it has {', '.join(metrics) or 'nothing'}")
    for label, metrics in scores.items():
        for name, value in metrics.items():
            if not _is_finite(value):
                raise LawBroken(f"{label!r}: {name} is {value!r}, not a finite number")


def _is_finite(value: Any) -> bool:
    try:
        return abs(float(value)) < float("inf")
    except (TypeError, ValueError):
        return False
