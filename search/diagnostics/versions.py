"""Whether the nodes have the software of this machine, and import the packages that are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import requires
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from search.diagnostics.context import DRIVER, DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.software import software

IN_TRIALS = ("ray", "torch", "numpy", "pydantic")  # a trial imports them
IN_DRIVER = ("optuna", "mlflow", "uproot", "awkward")
OWN = ("search", "spaces", "trainables")
_INSTALL = "pip install -r requirements.lock && pip install --no-deps -e . in the environment of {}"


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Compare this machine with the requirements, imports with installed packages, and the nodes with this machine."""
    here, nodes = software((*IN_TRIALS, *IN_DRIVER), OWN), {}
    if context.cluster:
        results = context.cluster.run(software, (*IN_TRIALS, *IN_DRIVER), OWN, limit_s=context.node_limit_s)
        yield from results.error_findings("software")
        nodes = results.values
    findings = [*_check_requirements(here), *_check_hidden({DRIVER: here, **nodes})]
    findings += _differences("Python", here["python"], {name: there["python"] for name, there in nodes.items()}, wrong)
    other_code = {name: _code(there) for name, there in nodes.items() if there["code"] != here["code"]}
    findings += _differences("the project", _code(here), other_code, wrong)
    for package in (*IN_TRIALS, *IN_DRIVER):
        versions = {name: _version(there, package) for name, there in nodes.items()}
        findings += _compare_package(package, _version(here, package), versions)
    yield from findings
    if not findings:
        listed = ", ".join(f"{name} {_version(here, name)}" for name in (*IN_TRIALS[:3], *IN_DRIVER[:2]))
        where = "here and on all nodes" if nodes else "here"
        yield fine("versions", f"the same code, Python {here['python']}, {listed} {where}")


def _version(installed: Mapping[str, Any], package: str) -> str:
    return installed["packages"][package]["version"] or "none"


def _code(installed: Mapping[str, Any]) -> str:
    return f"code {installed['code']} in {installed['code_at']}" if installed["code"] else "none"


def _check_requirements(here: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the packages with the requirements of pyproject.toml."""
    for line in requires("hep-search") or ():
        requirement = Requirement(line)
        version = here["packages"].get(requirement.name, {}).get("version", "")
        if version is None or (version and version not in requirement.specifier):
            what, fix = f"{requirement.name} here", _INSTALL.format(DRIVER)
            yield wrong(what, version or "none", str(requirement.specifier), fix)


def _check_hidden(installed: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Report folders with the name of a package that come before it on Python's path."""
    for package in (*IN_TRIALS, *IN_DRIVER):
        folders = {node: there["packages"][package]["hidden_by"] for node, there in installed.items()}
        for folder, nodes in nodes_by_text({node: folder for node, folder in folders.items() if folder}).items():
            fix = "rename that folder, or take it off PYTHONPATH"
            yield wrong(f"import {package} on {nodes}", folder, "the package that is installed", fix)


def _differences(
    name: str, here: str, there: Mapping[str, str], finding: Callable[[str, str, str, str], Finding]
) -> Iterator[Finding]:
    for version, nodes in nodes_by_text({node: text for node, text in there.items() if text != here}).items():
        yield finding(f"{name} on {nodes}", version, f"{here} as here", _INSTALL.format(nodes))


def _compare_package(package: str, here: str, there: Mapping[str, str]) -> Iterator[Finding]:
    """Packages of trials must agree in their first two numbers, and Ray in all; other differences are warnings."""
    versions = {node: version.partition("+")[0] for node, version in there.items()}  # "+cu128" may differ
    here = here.partition("+")[0]
    apart = {node for node, version in versions.items() if package == "ray" or _series(version) != _series(here)}
    fatal = {node: version for node, version in versions.items() if package in IN_TRIALS and node in apart}
    yield from _differences(package, here, fatal, wrong)
    rest = {node: version for node, version in versions.items() if node not in fatal}
    yield from _differences(package, here, rest, warning)


def _series(version: str) -> tuple[int, ...]:
    return () if version == "none" else Version(version).release[:2]
