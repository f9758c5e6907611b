"""Laws of a whole trial, driven as Ray Tune drives it: it resumes bit for bit, and ends with weights and a report."""

from __future__ import annotations

import sys
from typing import Any

import torch

from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, NotGiven, law
from search.diagnostics.contract.state import STORED, TAKEN_OVER, WEIGHTS
from search.diagnostics.contract.subject import Subject
from search.diagnostics.contract.training import RUNS, SEEDED
from search.diagnostics.contract.values import differences, places
from trainables.base.checkpoint import BEST_FILE, LAST_FILE, STATE_FILE

_FINITE, _DECLARED = "metrics-are-finite", "what-is-declared-is-reported"
_ENDS, _QUIET = "a-run-ends-with-its-last-epoch", "validating-changes-nothing"
_TRIAL = (SEEDED, STORED, WEIGHTS, _FINITE, _DECLARED, _ENDS)
REPORT = "a-report-can-be-written"


def numbers(result: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of an epoch without the times that it took."""
    return {name: value for name, value in result["metrics"].items() if not name.endswith("_seconds")}


@law(
    "A trial that is resumed from a checkpoint goes on bit for bit as one that was never interrupted.",
    cause="something that changes in training is missing in state(): the optimizer's or the scheduler's state, a "
    "random generator (that of the process too, where layers such as Dropout draw from it), a position in the data",
    remedy="add it to state() and to load_state(), for example torch.get_rng_state() and torch.set_rng_state()",
    after=(*_TRIAL, TAKEN_OVER),
)
def a_resumed_trial_goes_on_bit_for_bit(subject: Subject) -> None:
    half = subject.epochs // 2
    whole = subject.ended
    first = subject.trial()
    for _ in range(half):
        first.step()
    with subject.new_folder() as folder:
        first.save_checkpoint(str(folder))
        second = subject.trial()
        second.load_checkpoint(str(folder))
    for expected in whole.results[half:]:
        again = second.step()
        epoch = f"epoch {expected['epoch']} after a resume behind epoch {half}"
        if found := differences(numbers(expected), numbers(again)):
            name = found[0].removeprefix("/")
            was, now = expected["metrics"].get(name), again["metrics"].get(name)
            raise LawBroken(f"{name} is {now!r} in {epoch}, {was!r} without a resume")
        for name in ("epoch", "outcome", "done", "best"):
            if again[name] != expected[name]:
                raise LawBroken(f"{name} is {again[name]!r} in {epoch}, {expected[name]!r} without a resume")
    pairs = {"state": (whole.state, second.run.training.state())}
    pairs["best epoch's weights"] = whole.best_weights, second.run.best["weights"]
    for what, (one, other) in pairs.items():
        if found := differences(one, other):
            raise LawBroken(f"the {what} differ in {places(found)} at the end of a resumed trial")


@law(
    "A trial in a process that ran another one before is the same as in a new process.",
    cause="something outlives a run: an attribute of a class, a global variable, a cache, data that were changed",
    remedy="make in __init__() whatever a run changes, and keep it in self",
    after=(*_TRIAL, TAKEN_OVER),
)
def a_reused_process_keeps_nothing_of_the_last_trial(subject: Subject) -> None:
    fresh = subject.trial()
    expected, state = fresh.step(), subject.stored(fresh.run.training.state())
    used = subject.trial(seed=9)
    used.step()
    used.reset_config(fresh.config)
    again = used.step()
    found = differences(numbers(expected), numbers(again))
    found = found or differences(state, used.run.training.state())
    if found:
        raise LawBroken(f"after another trial in the same process {places(found)} differs")


@law(
    "The last checkpoint of a trial holds its state, the weights of its best epoch and those of its last one.",
    cause="weights() returns nothing that can be stored",
    remedy="return tensors by name from weights()",
    after=_TRIAL,
    slow=True,
)
def the_last_checkpoint_holds_the_best_weights(subject: Subject) -> None:
    trial, results = subject.ended.trial, subject.ended.results
    goal = given.goal(subject.workload)
    best = min(results, key=lambda result: goal.order(result["metrics"]))
    expected = {"epoch": best["epoch"], "value": best["metrics"][goal.objective]}
    if results[-1]["best"] != expected:
        raise LawBroken(f"the best epoch is recorded as {results[-1]['best']}, expected {expected}")
    if (results[-1]["outcome"], results[-1]["done"]) != ("complete", True):
        raise LawBroken(f"the last epoch's outcome is {results[-1]['outcome']!r}, expected 'complete'")
    with subject.new_folder() as folder:
        trial.save_checkpoint(str(folder))
        for name in (STATE_FILE, BEST_FILE, LAST_FILE):
            stored = torch.load(folder / name, weights_only=True)
            if not stored:
                raise LawBroken(f"{name} of the last checkpoint is empty")
            if name != STATE_FILE and any(tensor.device.type != "cpu" for tensor in stored.values()):
                raise LawBroken(f"{name} of the last checkpoint holds tensors of another device than the CPU")


@law(
    "write_report() writes its figures and tables, closes the figures, and changes nothing in the run.",
    cause="a drawing function changes the networks or what it draws, or leaves them on another device",
    remedy="correct the drawing; a trial whose report fails keeps its weights, and shows the error in place of figures",
    after=(RUNS, SEEDED, WEIGHTS),
    slow=True,
)
def a_report_can_be_written(subject: Subject) -> None:
    open_before = _open_figures()
    report = subject.report
    if left := _open_figures() - open_before:
        raise LawBroken(
            f"write_report() leaves {left} figures of matplotlib open, which fill the memory of a search",
            "pyplot keeps each figure that it makes until it is closed",
            "call plt.close(figure), or make figures by matplotlib.figure.Figure(), which pyplot does not keep",
        )
    if report.changed:
        raise LawBroken(f"write_report() changes the weights {places(report.changed)}")


@law(
    "Figures that compare trials can be drawn from their reports.",
    cause="compare() expects a file that write_report() does not write",
    remedy="draw only what every report holds",
    after=(REPORT,),
    slow=True,
)
def trials_can_be_compared(subject: Subject) -> None:
    workload = subject.workload
    if not given.compares(workload):
        raise NotGiven("the workload gives no figures that compare trials")
    reports = {"one": subject.report.folder, "another": subject.report.folder}
    open_before = _open_figures()
    with subject.new_folder() as folder:
        workload.compare(reports, folder)
        workload.compare_seeds({"one": [subject.report.folder] * 2}, folder)
    if left := _open_figures() - open_before:
        raise LawBroken(f"compare() leaves {left} figures of matplotlib open")


def _open_figures() -> int:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return len(pyplot.get_fignums()) if pyplot else 0
