"""The documentation is true of the code where a program can tell: links, flags, files, targets, and its length."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import search.check
import search.doctor
import search.promote
import search.report
import search.submit
from search.config.flags import parse, parse_sync
from search.workloads import CHAINS, WORKLOADS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "mlflow" / "README.md"]
OURS = [page for page in PAGES if page.parent.name != "mlflow"]  # the others name flags and files of other programs
MOST_LINES_OF_README = 200
SAMPLE_WORDS = {"WORKLOAD": "zdc", "photon_id.py:WORKLOAD": "zdc"}  # what stands for any of them

per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
per_own_page = pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES_OF_README


# ---------------------------------------------------------------- links


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@per_page
def test_relative_links_and_anchors_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reachable_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md|mlflow/README\.md)", PAGES[0].read_text()))
    assert linked == {str(page.relative_to(ROOT)) for page in PAGES[1:]}


def test_every_picture_is_shown() -> None:
    shown = {link for page in OURS for link in re.findall(r"!\[[^\]]*\]\((?:docs/)?([\w.]+)\)", page.read_text())}
    assert shown == {file.name for file in (ROOT / "docs").glob("*.png")}


# ---------------------------------------------------------------- commands and flags


def help_of(command: Callable[[list[str]], object], *words: str) -> frozenset[str]:
    """The flags that a command's --help shows; no process is started for it."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as end:
        command([*words, "--help"])
    assert not end.value.code
    return frozenset(re.findall(r"--[a-z][a-z-]*", text.getvalue()))


@cache
def flags_of(module: str, *words: str) -> frozenset[str]:
    commands: dict[str, Callable[[list[str]], object]] = {
        "run": parse,
        "sync": parse_sync,
        "report": search.report.main,
        "promote": search.promote.main,
        "doctor": search.doctor.main,
        "check": search.check.main,
        "submit": search.submit.main,
    }
    return help_of(commands[module], *words)


def all_flags() -> set[str]:
    names = [*WORKLOADS, *CHAINS]
    known = set().union(*(flags_of("run", name) for name in names), flags_of("sync"))
    known |= flags_of("report") | flags_of("promote") | flags_of("doctor") | flags_of("check")
    return known.union(*(flags_of("submit", "zdc", "--to", target) for target in ("ray", "slurm", "kuberay")))


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words after ``python -m search.`` of each command in code, those of several lines too."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(
        r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    for line in lines:
        if found := re.match(r"\s*python -m search\.(.*)", line):
            yield [SAMPLE_WORDS.get(word, word) for word in shlex.split(found[1], comments=True)]


def unknown_flags(words: list[str]) -> list[str]:
    """The flags of a command that its own --help does not show."""
    module, *arguments = words
    if "--" in arguments:  # of submit: flags of search.run follow
        place = arguments.index("--")
        return unknown_flags([module, *arguments[:place]]) + unknown_flags(
            ["run", arguments[0], *arguments[place + 1 :]]
        )
    used = [word.partition("=")[0] for word in arguments if word.startswith("--") and word != "--help"]
    if module == "run" and "--sync" in arguments:
        known = flags_of("sync")
    elif module == "run":
        known = flags_of("run", arguments[0])
    elif module == "submit" and arguments[0] in ("status", "logs", "stop"):
        known = flags_of("submit", arguments[0])
    elif module == "submit":
        target = arguments[arguments.index("--to") + 1] if "--to" in arguments else "ray"
        known = flags_of("submit", arguments[0], "--to", target.partition("|")[0])
    else:
        known = flags_of(module)
    return [flag for flag in used if flag not in known]


@per_page
def test_commands_take_the_flags_that_the_page_gives_them(page: Path) -> None:
    wrong = {" ".join(words): bad for words in commands_in(page.read_text()) if (bad := unknown_flags(words))}
    assert wrong == {}


def test_commands_are_found_in_pages() -> None:
    """Otherwise the test above could not fail."""
    used = {words[0] for page in PAGES for words in commands_in(page.read_text())}
    assert used == {"run", "report", "promote", "doctor", "submit", "check"}


def test_an_unknown_flag_is_found() -> None:
    (words,) = commands_in("```bash\npython -m search.submit zdc --to slurm \\\n  --nods 2 -- --keep 3 --name a\n```\n")
    assert unknown_flags(words) == ["--nods", "--keep"]


@per_own_page
def test_flags_in_the_text_exist(page: Path) -> None:
    spans = re.findall(r"`(--[a-z][^`]*)`", page.read_text())
    flags = {word.partition("=")[0] for span in spans for word in span.split() if re.match(r"--[a-z]", word)}
    assert flags - all_flags() == set()


@per_page
def test_make_targets_and_benchmarks_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^(?:.*`)?make ([a-z-]+)", page.read_text(), re.MULTILINE)) - targets == set()
    for name in re.findall(r"python -m (benchmarks\.\w+)", page.read_text()):
        assert importlib.util.find_spec(name) is not None, name


# ---------------------------------------------------------------- files


@per_own_page
def test_files_in_the_text_exist(page: Path) -> None:
    spans = re.findall(r"`((?:search|trainables|spaces|tests|docs|mlflow|benchmarks)/[\w./-]*)`", page.read_text())
    assert [span for span in spans if not (ROOT / span).exists() and "NAME" not in span] == []


@pytest.mark.parametrize(("workload", "column"), [("zdc", 2), ("pt", 3)])
def test_the_readme_has_a_line_for_each_file_of_a_workload(workload: str, column: int) -> None:
    rows = [
        line.split("|") for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"\| `\w+\.py` \|", line)
    ]
    named = {row[1].strip(" `") for row in rows if len(row) == 5 and row[column].strip()}
    assert named == {file.name for file in (ROOT / "trainables" / workload).glob("*.py")} - {"__init__.py"}


@pytest.mark.parametrize("package", ["search", "trainables"])
def test_the_readme_has_a_line_for_each_package(package: str) -> None:
    text = (ROOT / "README.md").read_text()
    entries = [
        path for path in (ROOT / package).iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")
    ]
    names = [f"`{path.name}/`" if path.is_dir() else f"`{path.name}`" for path in entries]
    named_elsewhere = ("`zdc/`", "`pt/`")  # the table of their files
    assert [name for name in names if name not in text and name not in named_elsewhere] == []


def test_every_environment_variable_of_ours_is_documented() -> None:
    code = [file.read_text() for package in ("search", "trainables") for file in (ROOT / package).rglob("*.py")]
    read = {name for text in code for name in re.findall(r"environ[^\n]*\"(SEARCH_[A-Z_]+)\"", text)}
    documented = set(re.findall(r"^\| `(SEARCH_[A-Z_]+)` \|", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE))
    assert read == documented
