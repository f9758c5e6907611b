"""Each law of the contract is found broken by the check that is about it, and by no other, with what mends it."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from well_behaved import LineConfig, LineData, LineTraining, make_bare, make_line, simulate_data, suggest

import search.check
from search.diagnostics.contract.law import Outcome
from search.diagnostics.contract.runner import CHECKS, run_checks
from search.diagnostics.contract.subject import Subject
from search.workload import Defaults, Workload
from search.workloads import WORKLOADS


def outcomes_of(workload: Workload, folder: Path, *files: str, only: tuple[str, ...] = ()) -> list[Outcome]:
    return [step for step in run_checks(Subject(workload, folder, files), only) if isinstance(step, Outcome)]


def failures_of(workload: Workload, folder: Path) -> dict[str, Outcome]:
    return {one.check.name: one for one in outcomes_of(workload, folder) if one.result == "failed"}


def test_a_workload_that_keeps_the_contract_passes_every_check(tmp_path: Path) -> None:
    results = {one.check.name: (one.result, one.found) for one in outcomes_of(make_line(), tmp_path)}
    assert results == {check.name: ("passed", "") for check in CHECKS}


def test_a_workload_of_required_fields_alone_passes_what_it_can_on_a_file(tmp_path: Path) -> None:
    file = tmp_path / "events.seed"
    file.write_text("7")
    outcomes = outcomes_of(make_bare(), tmp_path, str(file))
    assert [(one.check.name, one.found) for one in outcomes if one.result == "failed"] == []
    assert {one.check.name: one.found for one in outcomes if one.result == "skipped"} == {
        "what-is-optional-or-mutable-is-searched": "the workload gives no optional and no mutable hyperparameters",
        "a-preset-is-a-point-of-the-space": "the workload gives no presets",
        "naive-predictors-are-scored-like-trials": "the workload gives no naive predictors",
        "trials-can-be-compared": "the workload gives no figures that compare trials",
        "what-is-mutable-acts-within-a-run": "the workload gives no mutable hyperparameters",
        "the-largest-trial-is-the-largest": "the workload gives no sizing",
        "what-takes-memory-changes-in-no-run": "the workload gives no sizing",
        "a-larger-trial-takes-more": "the workload gives no sizing",
    }


# ---------------------------------------------------------------- one defect each


class StateIsNoCopy(LineTraining):
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state | {"epoch": self.epoch, "random": torch.get_rng_state()}


class KeepsOldRate(LineTraining):
    """Its dropout acts when it is changed, so that moving both at once would hide this."""

    def load_state(self, state: dict[str, Any]) -> None:
        self.load_all(state)


class ValidationDraws(LineTraining):
    def validate(self) -> dict[str, float]:
        torch.rand(1)
        return super().validate()


class ValidatesInTrainingMode(LineTraining):
    def validate(self) -> dict[str, float]:
        numbers = super().validate()
        with torch.no_grad():
            return numbers | {"loss": self.network(self.x).mean().abs().item()}


class WeightsAreViews(LineTraining):
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}


class Unseeded(LineTraining):
    def __init__(self, config: LineConfig, data: LineData, device: torch.device) -> None:
        state = torch.get_rng_state()
        super().__init__(config, data, device)
        torch.set_rng_state(state)  # the weights are those of the seed, dropout and the order of events are not


class SeedIsIgnored(LineTraining):
    def __init__(self, config: LineConfig, data: LineData, device: torch.device) -> None:
        super().__init__(config.model_copy(update={"seed": 0}), data, device)


class ReportRaises(LineTraining):
    def write_report(self, folder: Path) -> None:
        raise KeyError("auc")


class ReportTrains(LineTraining):
    def write_report(self, folder: Path) -> None:
        with torch.no_grad():
            self.network[0].weight.zero_()  # type: ignore[union-attr]


class ReportLeavesFiguresOpen(LineTraining):
    def write_report(self, folder: Path) -> None:
        import matplotlib.pyplot as plt

        super().write_report(folder)
        plt.figure().savefig(folder / "empty.png")


class NotFinite(LineTraining):
    def validate(self) -> dict[str, float]:
        return super().validate() | {"worst": math.nan}


class EpochIsNotCounted(LineTraining):
    def train_epoch(self) -> dict[str, float]:
        numbers = super().train_epoch()
        self.epoch -= 1
        return numbers


class NeverFinished(LineTraining):
    @property
    def finished(self) -> bool:
        return self.epoch > self.config.epochs


class ProgressFalls(LineTraining):
    @property
    def progress(self) -> float:
        return 1 - super().progress


class MetricIsText(LineTraining):
    def validate(self) -> dict[str, float]:
        return super().validate() | {"worst": "0.5"}  # type: ignore[dict-item]


class MetricIsArray(LineTraining):
    def validate(self) -> dict[str, float]:
        return super().validate() | {"worst": torch.zeros(3)}  # type: ignore[dict-item]


class ReturnsNothing(LineTraining):
    def train_epoch(self) -> dict[str, float]:  # type: ignore[return]
        super().train_epoch()


class StateHoldsNumpy(LineTraining):
    def state(self) -> dict[str, Any]:
        return super().state() | {"best": np.float32(1.0)}


class ForgetsOptimizer(LineTraining):
    def load_state(self, state: dict[str, Any]) -> None:
        rate = self.optimizer.state_dict()
        super().load_state(state)
        self.optimizer.load_state_dict(rate)


class ForgetsRandomState(LineTraining):
    def state(self) -> dict[str, Any]:
        state = super().state()
        del state["random"]
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state | {"random": torch.get_rng_state()})


class ChangesData(LineTraining):
    def train_epoch(self) -> dict[str, float]:
        self.data.train_x += 1.0
        return super().train_epoch()


class OutlivesItsRun(LineTraining):
    """The first run of a process with another seed leaves something to all later ones."""

    seeds: ClassVar[set[int]] = set()

    def train_epoch(self) -> dict[str, float]:
        self.seeds.add(self.config.seed)
        return super().train_epoch() | {"seeds": float(9 in self.seeds and self.config.seed == 3)}


def with_a_lock() -> type[LineTraining]:
    lock = threading.Lock()

    class Locked(LineTraining):
        def train_epoch(self) -> dict[str, float]:
            with lock:
                return super().train_epoch()

    return Locked


class AnythingGoes(LineConfig, extra="allow"):
    pass


class Idle(LineConfig):
    idle: float = 0.0


def data_with(**fields: Any) -> Any:
    return lambda events, seed: replace(simulate_data(events, seed), **fields)


def smaller(value: float) -> float:
    return -float(value)


BROKEN: dict[str, tuple[Workload, str, str]] = {  # what is broken -> workload, check that finds it, words of its help
    "state is no copy": (make_line(training=StateIsNoCopy), "a-state-is-a-copy", "return copies"),
    "old rate is kept": (
        make_line(training=KeepsOldRate), "what-is-mutable-acts-within-a-run", 'group["lr"] = self.config.lr',
    ),
    "validation draws": (make_line(training=ValidationDraws), "validating-changes-nothing", "made anew"),
    "validates with dropout": (
        make_line(training=ValidatesInTrainingMode), "validating-changes-nothing", "call eval()",
    ),
    "weights are views": (make_line(training=WeightsAreViews), "weights-are-copies-on-the-cpu", "clone()"),
    "dropout is not seeded": (make_line(training=Unseeded), "the-seed-decides-all", "torch.manual_seed"),
    "seed is ignored": (make_line(training=SeedIsIgnored), "another-seed-is-another-run", "config.seed"),
    "report raises": (make_line(training=ReportRaises), "a-report-can-be-written", "correct that line"),
    "report trains": (make_line(training=ReportTrains), "a-report-can-be-written", "correct the drawing"),
    "figures stay open": (make_line(training=ReportLeavesFiguresOpen), "a-report-can-be-written", "plt.close"),
    "preset outside": (
        make_line(presets={"usual": {"lr": 1.0, "dropout": 0.1, "width": 16}, "slow": {"lr": 1e-3, "dropout": 0.1}}),
        "a-preset-is-a-point-of-the-space", "widen the range",
    ),
    "presets are equal": (
        make_line(presets={name: {"lr": 1e-3, "dropout": 0.1, "width": 8} for name in ("usual", "slow")}),
        "presets-differ-and-exist", "remove one",
    ),
    "objective is not reported": (
        make_line(objectives={"los": "min"}, baselines=lambda data: {}), "what-is-declared-is-reported", "same name",
    ),
    "unknown hyperparameter": (
        make_line(suggest=lambda trial: suggest(trial) | {"widht": 8}),
        "sampled-points-build-a-configuration", "of that name",
    ),
    "value out of bounds": (
        make_line(suggest=lambda trial: {"dropout": trial.suggest_float("dropout", 0, 3)}),
        "sampled-points-build-a-configuration", "whole range",
    ),
    "not finite": (make_line(training=NotFinite), "metrics-are-finite", "TrainingDiverged"),
    "fingerprint is constant": (
        make_line(simulate_data=data_with(fingerprint="line")), "the-fingerprint-is-that-of-the-data", "hash",
    ),
    "summary is a text": (
        make_line(simulate_data=data_with(summary="a line")), "the-data-describe-themselves", "sequence of str",
    ),
    "epoch is not counted": (make_line(training=EpochIsNotCounted), "each-epoch-is-counted", "self.epoch += 1"),
    "never finished": (make_line(training=NeverFinished), "a-run-ends-with-its-last-epoch", "leave both"),
    "progress falls": (make_line(training=ProgressFalls), "a-run-ends-with-its-last-epoch", "leave both"),
    "metric is a text": (make_line(training=MetricIsText), "metrics-are-numbers", "one number"),
    "metric is an array": (make_line(training=MetricIsArray), "metrics-are-numbers", "one number"),
    "nothing is returned": (make_line(training=ReturnsNothing), "a-run-trains-and-validates", "return a dict"),
    "state holds numpy": (make_line(training=StateHoldsNumpy), "a-state-can-be-stored", "torch.from_numpy"),
    "optimizer is forgotten": (make_line(training=ForgetsOptimizer), "a-state-is-taken-over", "each part"),
    "random state is forgotten": (
        make_line(training=ForgetsRandomState), "a-resumed-trial-goes-on-bit-for-bit", "torch.get_rng_state()",
    ),
    "data are changed": (make_line(training=ChangesData), "a-run-trains-and-validates", "correct that line"),
    "something outlives a run": (
        make_line(training=OutlivesItsRun), "a-reused-process-keeps-nothing-of-the-last-trial", "keep it in self",
    ),
    "training holds a lock": (make_line(training=with_a_lock()), "all-can-be-sent-to-another-process", "at the top"),
    "data hold a lock": (
        make_line(simulate_data=data_with(summary=[threading.Lock()])), "the-data-describe-themselves", "sequence",
    ),
    "configuration takes anything": (make_line(config=AnythingGoes), "a-misspelt-hyperparameter-is-refused", "forbid"),
    "mutable is misspelt": (
        make_line(mutable=("lr", "epochs")), "what-is-optional-or-mutable-is-searched", "suggest()",
    ),
    "searched for nothing": (
        make_line(config=Idle, presets={}, demo=Defaults(), full=Defaults(),
                  suggest=lambda trial: suggest(trial) | {"idle": trial.suggest_float("idle", 0, 1)}),
        "what-is-searched-acts", "take it out",
    ),
    "no file is looked at": (
        make_line(load_data=lambda settings, cache: simulate_data(250, 1)),
        "an-absent-file-is-a-data-error", "DataError",
    ),
    "naive predictor lacks a score": (
        make_line(baselines=lambda data: {"mean": {"loss": 1.0}}),
        "naive-predictors-are-scored-like-trials", "same function",
    ),
    "sizes are turned round": (make_line(sizing={"width": smaller}), "a-larger-trial-takes-more", "float"),
    "size changes in a run": (
        make_line(sizing={"lr": float, "width": float}), "what-takes-memory-changes-in-no-run", "leave it out",
    ),
    "comparison raises": (
        make_line(compare=lambda reports, folder: (folder / "a" / "b").write_text("")),
        "trials-can-be-compared", "that line",
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", BROKEN)
def test_a_defect_is_found_by_the_check_that_is_about_it(defect: str, tmp_path: Path) -> None:
    workload, check, words = BROKEN[defect]
    failed = failures_of(workload, tmp_path)
    assert list(failed) == [check], {name: one.found for name, one in failed.items()}
    assert failed[check].found
    assert failed[check].cause
    assert words in failed[check].remedy


def test_every_check_that_can_fail_here_is_seen_to_fail() -> None:
    """The others need a fault of the platform itself."""
    of_the_platform = {"the-largest-trial-is-the-largest", "the-last-checkpoint-holds-the-best-weights"}
    assert {check for _, check, _ in BROKEN.values()} == {check.name for check in CHECKS} - of_the_platform


def test_numbers_of_numpy_and_torch_are_metrics(tmp_path: Path) -> None:
    class Numpy(LineTraining):
        def validate(self) -> dict[str, float]:
            numbers = super().validate()
            return {"loss": np.float32(numbers["loss"]), "worst": torch.tensor(numbers["worst"])}  # type: ignore[dict-item]

    workload = make_line(training=Numpy)
    assert failures_of(workload, tmp_path) == {}
    trial = Subject(workload, tmp_path).trial()
    assert all(type(value) is float for value in trial.step()["metrics"].values())


def test_what_builds_on_a_failed_check_is_skipped_and_says_so(tmp_path: Path) -> None:
    outcomes = {one.check.name: one for one in outcomes_of(make_line(training=ChangesData), tmp_path)}
    hidden = outcomes["a-resumed-trial-goes-on-bit-for-bit"]
    assert (hidden.result, hidden.found) == ("skipped", "it needs a-run-trains-and-validates, which failed")
    assert outcomes["a-preset-is-a-point-of-the-space"].result == "passed"


def test_an_error_in_the_users_code_names_the_innermost_line_of_it(tmp_path: Path) -> None:
    """Not the line of numpy or of the platform in which it arose."""
    failed = failures_of(make_line(training=ChangesData), tmp_path)["a-run-trains-and-validates"]
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "train_x += 1.0" in text)
    assert f"({__file__}:{line}, in train_epoch)" in failed.found
    assert "read-only" in failed.found
    assert "Traceback" in failed.details


def test_a_check_leaves_the_random_state_and_the_threads_of_the_process(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    outcomes_of(make_line(), tmp_path, only=("the-seed-decides-all",))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert torch.get_num_threads() == before[2]


# ---------------------------------------------------------------- the command


@pytest.fixture
def offered() -> Any:
    """Offer workloads by name for one test."""
    names: list[str] = []

    def offer(workload: Workload) -> str:
        WORKLOADS[workload.name] = workload
        names.append(workload.name)
        return workload.name

    yield offer
    for name in names:
        del WORKLOADS[name]


def test_the_command_ends_with_1_where_a_check_fails_and_shows_what_helps(
    offered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = offered(make_line(training=StateIsNoCopy))
    assert search.check.main([name, "--only", "a-state-is-a-copy"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "failed a-state-is-a-copy law: A state is a copy" in text
    assert "remedy: return copies" in text
    assert "1 failed, 4 passed, 0 skipped" in text
    assert "Traceback" not in text


def test_the_command_ends_with_0_where_none_fails(offered: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.check.main([offered(make_line()), "--only", "metrics-are-finite", "--epochs", "2"]) == 0
    assert "0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bare"], "--data FILE"),
        (["bare", "--data", "absent.seed"], "absent.seed"),
        (["nothing-of-that-name"], "nothing-of-that-name"),
        (["line", "--only", "state-is-a-copy"], "Did you mean a-state-is-a-copy?"),
    ],
)
def test_wrong_input_ends_the_command_with_2_and_says_what_to_do(
    words: list[str], said: str, offered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    offered(make_line())
    offered(make_bare(name="bare"))
    assert search.check.main(words) == 2
    assert said in capsys.readouterr().out


TAGGER = """
import numpy as np
import threading
import torch
from well_behaved import LineConfig, LineTraining, suggest
from search.workload import Workload

LOCK = threading.Lock()

class Tagger(LineTraining):
    def __init__(self, config, data, device):
        x, y = data.train["x"], data.train["y"]
        self.arrays = {"train_x": x, "train_y": y, "validation_x": data.validation["x"]}
        self.arrays["validation_y"] = data.validation["y"]
        super().__init__(config, type("Arrays", (), self.arrays), device)

    def write_report(self, folder):
        HERE

def load(files):
    random = np.random.default_rng(len(np.fromfile(files[0], dtype=np.uint8)))
    x = random.normal(size=(500, 2)).astype("f4")
    return {"x": x, "y": x[:, 0]}

WORKLOAD = Workload(
    name="tagger", training=Tagger, config=LineConfig, load=load, suggest=suggest, objectives={"loss": "min"},
)
"""
REPORT_LINE = TAGGER.splitlines().index("        HERE") + 1


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        ("(folder / 'x.csv').write_text('1')", 0, ["0 failed"]),
        (
            "raise ValueError('no curve')",
            1,
            ["ValueError: no curve", f"tagger.py:{REPORT_LINE}, in write_report", "1 failed"],
        ),
        ("str(LOCK)", 1, ["failed all-can-be-sent-to-another-process", "cannot pickle '_thread.lock' object"]),
    ],
    ids=["fine", "raises", "lock"],
)
def test_a_file_outside_of_the_repository_is_checked_by_its_word(
    written: str, code: int, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tagger.py").write_text(TAGGER.replace("HERE", written))
    (tmp_path / "events.txt").write_text("data")
    word = f"{tmp_path / 'tagger.py'}:WORKLOAD"
    assert search.check.main([word, "--data", str(tmp_path / "events.txt"), "--epochs", "2"]) == code
    text = capsys.readouterr().out
    for words in said:
        assert "".join(words.split()) in "".join(text.split()), text  # wherever a line ends


def test_a_traceback_is_shown_on_demand(offered: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = offered(make_line(training=ReportRaises))
    assert search.check.main([name, "--only", "a-report-can-be-written", "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().out


def test_the_page_lists_every_law() -> None:
    page = (Path(__file__).parents[1] / "docs" / "check.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(check.name, check.law) for check in CHECKS]
