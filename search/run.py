"""Run one search, or a chain of them, from the command line: python -m search.run WORKLOAD."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from rich.console import Console

from search.config.flags import parse, parse_sync
from search.config.redaction import without_passwords
from search.config.settings import SearchFlags
from search.errors import SearchError
from search.reporting.summary import open_console
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
        name, code = _run(what, given, console)
    except (SearchError, DataError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, SearchError) else WRONG_INPUT
    except OSError as error:
        from search.storage.disk import is_disk_full

        if not is_disk_full(error):
            raise
        console.print(
            f"error: {error}; the same command goes on with --name NAME --resume", markup=False, soft_wrap=True
        )
        return INTERRUPTED
    except KeyboardInterrupt:
        console.print("interrupted at once; if trials had run, the same command goes on with --name NAME --resume")
        return INTERRUPTED
    if code == INTERRUPTED:
        again = ["python", "-m", "search.run", *arguments]
        again += [] if given.site.name else ["--name", name]
        again += ["--resume"] if given.site.resume == "no" else []
        line = (
            f"interrupted: every trial keeps its last whole epoch. Go on with:\n{without_passwords(shlex.join(again))}"
        )
        console.print(line, markup=False, soft_wrap=True)
    return code


def _run(what: Workload | Chain, flags: SearchFlags[Any], console: Console) -> tuple[str, int]:
    """Run one search or a chain; return its name and exit code."""
    from search.config.spec import make_spec

    if isinstance(what, Chain):
        from search.engine.chain import run_chain

        return run_chain(what, flags, console)
    spec = make_spec(what, flags)
    from search.engine.search_run import run_search

    return spec.name, run_search(spec, console).code


if __name__ == "__main__":
    sys.exit(main())
