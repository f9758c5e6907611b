"""Run, load and promote searches from Python: the commands as functions, whose errors are exceptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from search.config import catalogue
from search.config.keywords import require_known, search_flags, validated
from search.config.provenance import called_as
from search.config.redaction import first_line, without_passwords
from search.config.settings import (
    Budget,
    ExecutionFlags,
    FixedShareFlags,
    Method,
    SearchFlags,
    Site,
    WhereFlags,
)
from search.config.spec import make_spec, with_name
from search.engine.isolation import alone, undisturbed
from search.errors import SearchError
from search.promote import Flags as PromotionFlags
from search.promote import workload_to_promote
from search.reporting.console import SafeConsole, libraries_logged, open_console
from search.workload import Chain, Workload
from search.workloads import CHAINS, WORKLOADS
from trainables.base.errors import DataError
from trainables.data.files import DataSettings

if TYPE_CHECKING:
    from search.engine.results import ChainRun, SearchRun
    from search.promotion.promotion_run import PromotionRun

_PROMOTION = ("search", "top", "seeds", "confidence", "force")


def run(workload: str | Workload | Chain, **flags: Any) -> SearchRun | ChainRun:
    """Run one search, or a chain, as ``python -m search.run WORKLOAD`` does, and return what it has left.

    Ctrl-C, or a notebook's stop button, ends the trials in good order, and ``.interrupted`` of what is returned is
    true; a second one raises KeyboardInterrupt at once.

    Parameters
    ----------
    workload : str, Workload or Chain
        The name of one, or the object.
    flags
        The flags of the command by their names, with underscores: ``data``, ``trials``, ``epochs``, ``name``,
        ``time_limit``, ``objective``, ``storage``, ``resume`` ... (``python -m search.run WORKLOAD --help`` explains
        all). Several words may be a list; ``set`` and ``constraint`` may be a dict.

    Raises
    ------
    SearchError, DataError
        The words that the command prints; a wrong keyword or value is a UsageError.

    Examples
    --------
    >>> result = search.run("zdc", data="/data/zdc/*.root", trials=20, time_limit="2h")
    >>> result.trials
    >>> result.best.model()
    """
    what = _find(workload)
    given = with_name(search_flags(_settings(what), flags), what.name)
    console = open_console()
    with _known(what):
        if isinstance(what, Workload):
            make_spec(what, given)  # a wrong word is found before any library is loaded
        with (
            alone(),
            undisturbed("search.engine.chain", "search.engine.results"),
            called_as(_call("run", workload, flags)),
        ):
            again = _call("run", workload, flags | {"name": given.site.name, "resume": "auto"})
            code = _run(what, given, again, console)
            return _result(what, given.site, code)


def load(name: str, workload: str | Workload | None = None, **where: Any) -> SearchRun | ChainRun:
    """Read a search or a chain that has ended, or is running, from its directory.

    Parameters
    ----------
    workload : str or Workload, optional
        Of a search whose workload is not known here by its name.
    where
        ``storage``, ``tracking_uri`` (for the ids of MLflow runs), ``cache`` (for ``.validation``).

    Raises
    ------
    UsageError
        There is no search of this name; names the nearest.
    """
    require_known(where, WhereFlags.model_fields)
    site = validated(Site, where)
    what = _find(workload) if workload is not None else None
    with _known(what), undisturbed("search.engine.results"):
        from search.engine.results import load_search

        return load_search(site, name, what if isinstance(what, Workload) else None, CHAINS)


def promote(workload: str | Workload, **flags: Any) -> PromotionRun:
    """Promote the best model of a search if it is better on the holdout, as ``python -m search.promote`` does.

    Parameters
    ----------
    flags
        ``search`` (its name; the last one that ended), ``top``, ``seeds``, ``confidence``, ``force`` (the reason),
        ``storage``, ``tracking_uri``, ``max_concurrent`` ...: those of the command.

    Raises
    ------
    SearchError, DataError
        The words that the command prints.
    """
    asked = _promotion_flags(workload, flags)
    what, console = _find(workload), open_console(160)
    with _known(what):
        found = workload_to_promote(what.name)
        with alone(), undisturbed("search.promotion.promotion_run"), called_as(_call("promote", workload, flags)):
            from search.promotion.promotion_run import PromotionRun
            from search.promotion.run import promote as carry_out

            with libraries_logged(console.log_file):
                end = carry_out(found, asked.request, asked.site, asked.budget, console)
            done = PromotionRun(end)
    if done.interrupted:
        console.print("interrupted: the same call resumes it")
    return done


def interrupt() -> bool:
    """End the search that runs in another thread of this process in good order; False: none is running."""
    from search.tuning.stopping import interrupt

    return interrupt()


def _run(what: Workload | Chain, given: SearchFlags[Any], again: str, console: SafeConsole) -> int:
    """Run one search or a chain; whatever ends it, say how it is resumed."""
    from search.engine.chain import run_chain
    from search.engine.search_run import INTERRUPTED, run_search

    code, reason = 0, "interrupted: every trial keeps its last whole epoch"
    try:
        code = (
            run_chain(what, given, console)
            if isinstance(what, Chain)
            else run_search(make_spec(what, given), console).code
        )
    except (SearchError, DataError):
        raise
    except BaseException as error:
        at_once = isinstance(error, KeyboardInterrupt)
        code = INTERRUPTED
        reason = "interrupted at once" if at_once else f"ended by {type(error).__name__}: {first_line(error)}"
        console.log_traceback()
        raise
    finally:
        if code == INTERRUPTED:
            console.print(f"{reason}. Go on with:\n{again}", markup=False, soft_wrap=True)
    return code


def _result(what: Workload | Chain, site: Site, code: int) -> SearchRun | ChainRun:
    from search.engine.results import ChainRun, SearchRun

    if isinstance(what, Chain):
        return ChainRun(site, str(site.name), what, code)
    return SearchRun(site, str(site.name), what)


def _find(workload: str | Workload | Chain) -> Workload | Chain:
    """Return a workload or chain; one that is given as an object gets the word by which other processes find it.

    Raises
    ------
    UsageError
        There is none of this name, FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE; names the nearest.
    """
    if isinstance(workload, Chain):
        return workload
    if isinstance(workload, Workload):
        return replace(workload, word=catalogue.word_of(workload)) if workload.word == workload.name else workload
    return catalogue.find(str(workload))


def _settings(what: Workload | Chain) -> type[DataSettings]:
    return WORKLOADS[what.workloads[0]].settings if isinstance(what, Chain) else what.settings


@contextmanager
def _known(what: Workload | Chain | None) -> Iterator[None]:
    """Let reports and results find a workload by its name while the search runs."""
    if not isinstance(what, Workload):
        yield
        return
    with WORKLOADS.including(what):
        yield


def _promotion_flags(workload: str | Workload, flags: Mapping[str, Any]) -> PromotionFlags:
    """Make the flags of the command of keywords."""
    parts: dict[str, type[BaseModel]] = {
        "where": WhereFlags,
        "share": FixedShareFlags,
        "execution": ExecutionFlags,
    }
    require_known(flags, [*_PROMOTION, *(name for part in parts.values() for name in part.model_fields)])
    own = {name: flags[name] for name in _PROMOTION if name in flags}
    word = workload if isinstance(workload, str) else workload.name
    settings: dict[str, Any] = {name: validated(part, flags) for name, part in parts.items()}
    asked = PromotionFlags(word, **own, **settings)
    asked.check()
    return asked


def _call(function: str, workload: object, flags: Mapping[str, Any]) -> str:
    """Write a call as somebody would type it, without passwords."""
    first = repr(workload) if isinstance(workload, str) else getattr(workload, "name", "WORKLOAD")
    words = [first, *(f"{name}={_shown(value)}" for name, value in flags.items())]
    return without_passwords(f"search.{function}({', '.join(words)})")


def _shown(value: Any) -> str:
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def _sign(function: Callable[..., Any], *models: type[BaseModel]) -> None:
    """Show the keywords of a function where an editor or a notebook asks for its signature."""
    first, *_, rest = inspect.signature(function).parameters.values()
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.get_default(call_default_factory=False))
        for name, field in fields.items()
    ]
    function.__signature__ = inspect.Signature([first, *keywords, rest])  # type: ignore[attr-defined]


_sign(run, DataSettings, Budget, Method, Site)
