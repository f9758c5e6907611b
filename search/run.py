"""Run one search, or a chain of them, from the command line: python -m search.run WORKLOAD."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from typing import Any

from search.config.flags import parse, parse_sync
from search.config.redaction import first_line, without_passwords
from search.config.settings import SearchFlags
from search.errors import SearchError
from search.reporting.console import SafeConsole, open_console, run_command
from search.reporting.summary import ConsoleReporter
from search.workload import Chain, Workload
from trainables.base.errors import DataError

COMPLETE, WRONG_INPUT, INTERRUPTED = 0, 2, 130  # exit codes


def main(arguments: list[str] | None = None) -> int:
    """Run one search; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = open_console()
    try:
        if "--sync" in arguments:
            flags = parse_sync(arguments)
            from search.engine.sync import sync  # only here, as below: --help and a wrong flag need no libraries

            return sync(flags, console)
        what, given = parse(arguments)
        return _run(what, given, arguments, console)
    except (SearchError, DataError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, SearchError) else WRONG_INPUT
    except KeyboardInterrupt:
        console.print("interrupted at once")
        return INTERRUPTED


def _run(what: Workload | Chain, given: SearchFlags[Any], arguments: list[str], console: SafeConsole) -> int:
    """Run one search or a chain; whatever ends it, say how it is resumed."""
    from search.config.spec import with_name

    flags = with_name(given, what.name)
    again = ["python", "-m", "search.run", *arguments]
    again += [] if given.site.name else ["--name", str(flags.site.name)]
    again += ["--resume"] if given.site.resume == "no" else []
    resume = without_passwords(shlex.join(again))
    try:
        code = _search(what, flags, console)
    except (SearchError, DataError):
        raise
    except BaseException as error:
        if not _begun(what, flags):
            raise
        at_once = isinstance(error, KeyboardInterrupt)
        reason = "interrupted at once" if at_once else f"ended by {type(error).__name__}: {first_line(error)}"
        console.print(f"{reason}. Go on with:\n{resume}", markup=False, soft_wrap=True)
        if at_once or _is_disk_full(error):
            return INTERRUPTED
        console.log_traceback()
        raise
    if code == INTERRUPTED:
        line = f"interrupted: every trial keeps its last whole epoch. Go on with:\n{resume}"
        console.print(line, markup=False, soft_wrap=True)
    return code


def _search(what: Workload | Chain, flags: SearchFlags[Any], console: SafeConsole) -> int:
    """Run one search or a chain; return its exit code."""
    with ConsoleReporter(console).announcing("search   loading the libraries ..."):
        from search.config.spec import make_spec
        from search.engine.chain import run_chain
        from search.engine.search_run import run_search
    if isinstance(what, Chain):
        return run_chain(what, flags, console)
    return run_search(make_spec(what, flags), console).code


def _begun(what: Workload | Chain, flags: SearchFlags[Any]) -> bool:
    """Return whether there is something to resume."""
    from search.storage.location import Storage
    from search.storage.search_dir import SearchDir

    name = str(flags.site.name)
    names = [f"{name}.{workload}" for workload in what.workloads] if isinstance(what, Chain) else [name]
    with suppress(Exception):  # another one is on its way
        return any(SearchDir(Storage.of(flags.site), one).begun for one in names)
    return False


def _is_disk_full(error: BaseException) -> bool:
    from search.storage.disk import is_disk_full

    return isinstance(error, OSError) and is_disk_full(error)


if __name__ == "__main__":
    run_command(main)
