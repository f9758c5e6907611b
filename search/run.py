"""One search, or a chain of them, from the command line: python -m search.run WORKLOAD."""

from __future__ import annotations

import shlex
import sys

from search.config.flags import parse, parse_sync
from search.config.redaction import without_passwords
from search.config.spec import make_plan
from search.engine.chain import run_chain
from search.engine.search_run import COMPLETE, INTERRUPTED, run_search
from search.engine.sync import sync
from search.errors import SearchError
from search.reporting.console import open_console
from search.reporting.summary import Summary
from search.storage.disk import is_disk_full
from search.workloads import Chain
from trainables.base.errors import DataError

WRONG_INPUT = 2


def main(arguments: list[str] | None = None) -> int:
    """Run one search; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = open_console()
    try:
        if "--sync" in arguments:
            sync(parse_sync(arguments), console)
            return COMPLETE
        what, command = parse(arguments)
        if isinstance(what, Chain):
            name, code = run_chain(what, command, console)
        else:
            plan = make_plan(what, command.budget, command.method, command.site, demo=not command.data.data)
            name, code = plan.name, run_search(plan, command, console).code
    except (SearchError, DataError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, SearchError) else WRONG_INPUT
    except OSError as error:
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
        again += [] if command.site.name else ["--name", name]
        again += ["--resume"] if command.site.resume == "no" else []
        Summary(console).say(
            f"interrupted: every trial keeps its last whole epoch. Go on with:\n{without_passwords(shlex.join(again))}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
