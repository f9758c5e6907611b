"""The layout that keeps the house readable: few rooms, short modules, short import chains, few parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search", "trainables", "spaces")
MOST_ENTRIES, MOST_LINES, MOST_PARAMETERS = 19, 300, 6  # entries: six commands and Python, 3 modules, 9 packages
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def test_search_has_few_rooms() -> None:
    beside = {"__init__.py", "__pycache__", "py.typed"}
    entries = sorted(path.name for path in (ROOT / "search").iterdir() if path.name not in beside)
    assert len(entries) <= MOST_ENTRIES, entries


def test_no_module_is_long() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(one.arg not in ("self", "cls") for one in named)


def test_no_function_takes_many_parameters() -> None:
    """What travels together belongs into one object."""
    many = {
        f"{module}:{node.name}": parameters(node)
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and parameters(node) > MOST_PARAMETERS
    }
    assert many == {}


# ---------------------------------------------------------------- chains of imports


def imported(module: str) -> frozenset[str]:
    """Modules of search/ that a module imports, wherever in its text; what only names types is no chain."""
    typing = {id(inner) for block in typing_blocks(tree_of(module)) for inner in ast.walk(block)}
    found = set[str]()
    for node in ast.walk(tree_of(module)):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return frozenset(name for name in found & MODULES.keys() if name.startswith("search.") and name != module)


def typing_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body


@cache
def longest_chain(module: str) -> tuple[str, ...]:
    return module, *max((longest_chain(below) for below in imported(module)), key=len, default=())


@pytest.mark.parametrize(("command", "most"), [("search.run", 11), ("search.promote", 12)])
def test_a_command_stands_on_few_modules_one_above_the_other(command: str, most: int) -> None:
    chain = longest_chain(command)
    assert len(chain) <= most, " > ".join(chain)
