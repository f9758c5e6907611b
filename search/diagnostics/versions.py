"""Whether the nodes run the software of this machine, and import what is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from search.diagnostics.context import DRIVER, Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.software import software

IN_TRIALS = ("ray", "torch", "numpy", "pydantic")  # by what a trial itself imports
IN_DRIVER = ("optuna", "mlflow", "uproot", "awkward")
OWN = ("search", "spaces", "trainables")
_INSTALL = "pip install -r requirements.lock && pip install --no-deps -e . in the environment of {}"


def check(setup: Setup) -> Iterator[Finding]:
    """Requirements here; what would be imported, here and on the nodes; versions and code there against those here."""
    here = software((*IN_TRIALS, *IN_DRIVER), OWN)
    told = {}
    if setup.cluster:
        answers = setup.cluster.ask(software, (*IN_TRIALS, *IN_DRIVER), OWN, limit_s=setup.patience_s)
        yield from answers.complaints("software")
        told = answers.of
    findings = [*_required(here), *_hidden({DRIVER: here, **told})]
    findings += _differing("Python", here["python"], {node: there["python"] for node, there in told.items()}, wrong)
    others = {node: _code(there) for node, there in told.items() if there["code"] != here["code"]}
    findings += _differing("the project", _code(here), others, wrong)
    for package in (*IN_TRIALS, *IN_DRIVER):
        versions = {node: _version(there, package) for node, there in told.items()}
        findings += _package(package, _version(here, package), versions)
    yield from findings
    if not findings:
        listed = ", ".join(f"{name} {_version(here, name)}" for name in (*IN_TRIALS[:3], *IN_DRIVER[:2]))
        where = "here and on all nodes" if told else "here"
        yield fine("versions", f"the same code, Python {here['python']}, {listed} {where}")


def _version(told: Mapping[str, Any], package: str) -> str:
    return told["packages"][package]["version"] or "none"


def _code(told: Mapping[str, Any]) -> str:
    return f"code {told['code']} in {told['code_at']}" if told["code"] else "none"


def _required(here: Mapping[str, Any]) -> Iterator[Finding]:
    """What pyproject.toml asks for, of the packages that are looked at."""
    for line in requires("hep-search") or ():
        requirement = Requirement(line)
        version = here["packages"].get(requirement.name, {}).get("version", "")
        if version is None or (version and version not in requirement.specifier):
            yield wrong(
                f"{requirement.name} here", version or "none", str(requirement.specifier), _INSTALL.format(DRIVER)
            )


def _hidden(told: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """A folder of a package's name that comes first on the path of Python."""
    for package in (*IN_TRIALS, *IN_DRIVER):
        hidden = {node: there["packages"][package]["hidden_by"] for node, there in told.items()}
        for place, nodes in alike({node: place for node, place in hidden.items() if place}).items():
            mend = "rename that folder, or take it off PYTHONPATH"
            yield wrong(f"import {package} on {nodes}", place, "the package that is installed", mend)


def _differing(name: str, here: str, there: Mapping[str, str], say: Any) -> Iterator[Finding]:
    for version, nodes in alike({node: version for node, version in there.items() if version != here}).items():
        yield say(f"{name} on {nodes}", version, f"{here} as here", _INSTALL.format(nodes))


def _package(package: str, here: str, there: Mapping[str, str]) -> Iterator[Finding]:
    """What trials import must agree in its first two numbers, and Ray wholly; the rest is worth knowing."""
    versions = {node: version.partition("+")[0] for node, version in there.items()}  # "+cu128" is a node's own matter
    here = here.partition("+")[0]
    apart = {node for node, version in versions.items() if package == "ray" or _series(version) != _series(here)}
    fatal = {node: version for node, version in versions.items() if package in IN_TRIALS and node in apart}
    yield from _differing(package, here, fatal, wrong)
    rest = {node: version for node, version in versions.items() if node not in fatal}
    yield from _differing(package, here, rest, warning)


def _series(version: str) -> tuple[int, ...]:
    return () if version == "none" else Version(version).release[:2]
