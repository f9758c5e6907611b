"""A workload is found by its word, wherever it lies, and every wrong word is answered with what there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search.config import catalogue
from search.config.catalogue import find, find_workload, for_a_job, word_of, workload_of
from search.errors import UsageError
from search.workload import Workload
from search.workloads import WORKLOADS
from trainables.runtime.imports import modules_to_send

SOURCE = """
from beside_{tag} import SLOPE
from search.workload import Workload
from trainables.base.training import Training, TrainingConfig

class Jets(Training):
    slope = SLOPE

WORKLOAD = Workload(
    name="jets", training=Jets, config=TrainingConfig, load=lambda files: {{}}, suggest=lambda trial: {{}},
    objectives={{"auc": "max"}},
)
NUMBER = 3
"""


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A workload's file, with a module beside it; both have names that no other test uses."""
    tag = f"t{abs(hash(request.node.nodeid)) % 10**8}"
    (tmp_path / f"beside_{tag}.py").write_text("SLOPE = 0.5\n")
    made = tmp_path / f"jets_{tag}.py"
    made.write_text(SOURCE.format(tag=tag))
    return made


def test_carried_workloads_are_found_by_name() -> None:
    assert find_workload("zdc") is WORKLOADS["zdc"]
    assert WORKLOADS["zdc"].word == "zdc"


def test_a_file_is_found_from_any_folder_by_the_word_that_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    found = find_workload(f"{file.name}:WORKLOAD")
    assert found.word == f"{file}:WORKLOAD"
    monkeypatch.chdir("/")
    again = workload_of({"workload": "jets", "word": found.word})
    assert again is not None
    assert again.training is found.training, "a file is imported once"
    assert word_of(again) == found.word


def test_a_module_is_found_by_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    word = f"{file.stem}:WORKLOAD"
    assert find_workload(word).word == word
    assert word_of(find_workload(word)) == word
    assert for_a_job(word) == (word, [file])


def test_packages_offer_workloads_by_name(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    about = tmp_path / "jets_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: jets-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[hep_search.workloads]\nquark-jets = {file.stem}:WORKLOAD\n")
    assert catalogue.titles()["quark-jets"] == "of package jets-package"
    assert find_workload("quark-jets").word == "quark-jets"


def test_the_file_and_what_is_beside_it_are_sent_with_a_job(file: Path) -> None:
    find(f"{file}:WORKLOAD")
    word, sent = for_a_job(f"{file}:WORKLOAD")
    assert word == f"{file.name}:WORKLOAD"
    assert {path.name for path in sent} >= {file.name, file.name.replace("jets_", "beside_")}
    assert all(path.parent != Path(catalogue.__file__).parent for path in sent)
    assert sys.modules[file.stem] in set(modules_to_send())


def test_a_file_with_the_name_of_a_library_hides_nothing(file: Path) -> None:
    """A user may call it torch.py."""
    import torch

    renamed = file.rename(file.parent / "torch.py")
    assert find_workload(f"{renamed}:WORKLOAD").name == "jets"
    assert sys.modules["torch"] is torch


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("zcd", "no workload 'zcd'. Did you mean zdc"),
        ("{file}", "say which workload of the file"),
        ("{file}:WORKLOADS", "no attribute 'WORKLOADS'. Nearest: WORKLOAD"),
        ("{file}:NUMBER", "is a int, expected a search.Workload"),
        ("{folder}/jest.py:WORKLOAD", "no such file"),
        ("no_such_module:WORKLOAD", "importing it failed: ModuleNotFoundError"),
        ("pt", "pt is a chain. Name one of its workloads: pt-energy"),
    ],
)
def test_a_wrong_word_is_answered(word: str, message: str, file: Path) -> None:
    with pytest.raises(UsageError, match=message):
        find_workload(word.format(file=file, folder=file.parent))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"importing it failed \(bad_.*py:1\): ZeroDivisionError"),
        ("import sys; sys.exit(3)", r"importing it failed \(bad_.*py:1\): SystemExit"),
        ("def broken(:", "importing it failed.*SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(code: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / f"bad_{abs(hash(code))}.py"
    file.write_text(code)
    for _ in range(2):  # nothing half imported stays
        with pytest.raises(UsageError, match=message):
            find(f"{file}:WORKLOAD")


REQUIRED = {"name": "jets", "objectives": {"auc": "max"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "my jets"}, "expected a name of up to 60 letters"),
        ({"objectives": {}}, "has no objective"),
        ({"objectives": {"auc": "maximise"}}, "objective 'auc' is 'maximise', expected"),
        ({"load": None}, "gives neither load.* nor load_data"),
        ({"load_data": lambda settings, cache: None}, "gives both load and load_data"),
        ({"mutable": ("rate",)}, "mutable names 'rate', which TrainingConfig does not have"),
        ({"sizing": {"width": float}}, "sizing names 'width'"),
        ({"builds_on": ("zdc",)}, "builds_on and join go together"),
    ],
)
def test_a_workload_that_cannot_be_right_is_refused(change: dict[str, object], message: str, file: Path) -> None:
    made = find_workload(f"{file}:WORKLOAD")
    fields = {
        **REQUIRED, "training": made.training, "config": made.config, "load": made.load, "suggest": made.suggest
    }  # fmt: skip
    with pytest.raises(UsageError, match=message):
        Workload(**{**fields, **change})  # type: ignore[arg-type]


def test_what_is_not_given_has_a_default_that_works(file: Path) -> None:
    made = find_workload(f"{file}:WORKLOAD")
    assert made.title == "jets"
    assert made.demo == made.full
    assert dict(made.presets) == dict(made.baselines(None)) == dict(made.references(None)) == {}
