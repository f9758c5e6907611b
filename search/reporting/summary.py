"""Print on the console what a search is about to do, what it runs on, and what came of it."""

# Commands import this before they load anything: heavy modules are imported where they are needed.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING

from search.config.choice import scheduler_reason
from search.config.redaction import first_line, without_passwords
from search.reporting.console import SafeConsole, announcing

if TYPE_CHECKING:
    from search.config.settings import Site
    from search.config.spec import SearchSpec
    from search.reporting.leaderboard import Leaderboard
    from search.storage.search_dir import SearchDir
    from search.tracking.exporter import MlflowExporter, NullExporter
    from search.tuning.resources import Share

_MOST_MISSING = 10  # lines


class ConsoleReporter:
    """The lines that a search prints on a console at its beginning and at its end."""

    def __init__(self, console: SafeConsole) -> None:
        self.console = console

    def print_line(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def announcing(self, line: str) -> AbstractContextManager[None]:
        """Print the line where what is done inside takes longer than a few seconds; a fast step prints nothing."""
        return announcing(line, self.print_line)

    @contextmanager
    def without(self, what: str) -> Iterator[None]:
        """Go on without what only shows results, where it fails: say so, and keep the traceback in the log."""
        try:
            yield
        except Exception as error:
            self.print_line(f"warning  {what}: {type(error).__name__}: {first_line(error)}")
            self.console.log_traceback()

    def write_json(self, file: Path | None, text: str) -> None:
        """Write the file that --json names. Nothing is lost without it, so a full disk is not waited for."""
        from search.storage.disk import stop_waiting_when, write_atomically

        if file is not None:
            with self.without(f"--json {file} not written"), stop_waiting_when(lambda: True):
                write_atomically(file, text)

    def print_search(self, spec: SearchSpec, data: Iterable[str], warnings: Iterable[str] = ()) -> None:
        """Print one line each for the search, its data, its warnings and its budget."""
        about = ", ".join([str(spec.goal), *(constraint.in_words for constraint in spec.goal.constraints)])
        self.print_line(f"search   {spec.name}: {spec.workload.title}; {about}")
        if spec.demo:
            self.print_line(
                "demo     no --data: the carried sample, a small budget; --data FILES for yours and the report's own"
            )
        for line in data:
            self.print_line(f"data     {line}")
        for line in warnings:
            self.print_line(f"warning  {line}")
        presets = f"{len(spec.space.presets)} presets + {spec.trials} sampled trials, {spec.epochs} epochs each"
        limit = f", at most {spec.budget.time_limit}" if spec.budget.time_limit else ""
        by = f" (by {spec.goal.objective} alone)" if spec.goal.several and spec.scheduler != "none" else ""
        blind = " (ignores limits)" if spec.goal.constraints and spec.sampler not in ("tpe", "gp") else ""
        self.print_line(f"budget   {presets}, sampler {spec.sampler}{blind}, scheduler {spec.scheduler}{by}{limit}")
        if reason := scheduler_reason(spec):
            self.print_line(f"method   scheduler {spec.scheduler} by --scheduler auto: {reason}")

    def print_tracking(self, site: Site, *, tracked: bool) -> None:
        """Print where events wait if no server is used, and warn of an SQLite database on a network file system."""
        from search.storage.disk import on_network_file_system
        from search.storage.location import Storage

        if not tracked:
            self.print_line(
                "mlflow   no server is asked: what happens waits in the search's journal until --sync delivers it"
            )
        elif site.server is None and on_network_file_system(Storage(site.storage).folder):
            self.print_line(
                f"warning  {site.storage} is on a network file system, where SQLite locks badly: put --storage on a "
                "local disk, or start a server (see mlflow/README.md) and pass --tracking-uri, or journal for later"
            )

    def print_share(self, share: Share, gpus: str, most: int) -> None:
        """Print how many trials run at a time, the CPUs and GPUs of each, and how many it may become."""
        device = f"{share.gpus:g} GPU ({gpus or 'kind unknown'})" if share.gpus else "no GPU"
        grows = f", up to {most} at a time if nodes join" if most > share.concurrent and not share.servers else ""
        stacks = f" in {share.servers} stack{'s' * (share.servers > 1)}" if share.servers else ""
        self.print_line(
            f"device   {share.concurrent} trials at a time{stacks}, each {share.cpus:g} CPU and {device}{grows}"
        )

    def print_result(self, leaderboard: Leaderboard, folder: SearchDir, site: Site) -> None:
        """Print the leaderboard, its verdicts, the computing time, and where to look."""
        from search.storage.disk import files_line

        self.console.print(leaderboard.as_table())
        if leaderboard.goal.several:
            front, complete = len(leaderboard.front), sum(row.rank is not None for row in leaderboard.rows)
            self.print_line(f"front    {front} of {complete} complete trials, marked *: the Pareto front")
        for line in leaderboard.verdicts():
            self.print_line(line)
        counts = sorted(leaderboard.outcomes.items())
        outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts)
        self.print_line(f"outcomes {outcomes or 'no trial ran'}")
        spent, saved = leaderboard.compute_hours, leaderboard.saved_hours
        self.print_line(f"compute  {spent:.2f} trial-hours; stopping early saved {saved:.2f}")
        self.print_line(f"mlflow   {_mlflow_page(site, folder, leaderboard.objective)}")
        self.print_line(files_line(folder.path))
        if url := folder.storage.url:
            self.print_line(f"storage  {url}: checkpoints, and a copy of these files")

    def print_export(self, exporter: MlflowExporter | NullExporter, name: str, site: Site) -> None:
        """Print which events MLflow lacks, and the command that exports them."""
        command = sync_command(name, site.storage, site.tracking_uri)
        if not exporter.complete:
            self.print_line(
                f"warning  MLflow was away: {exporter.behind} entries wait in the journal; the leaderboard and the "
                f"folder are whole. When it is back: {command}"
            )
        self.print_missing(exporter.missing)
        if exporter.complete and exporter.missing:
            self.print_line(
                "warning  the search itself is whole, and all of it is kept. Once the reason is gone, this delivers "
                f"what is missing: {command}"
            )

    def print_missing(self, missing: Sequence[str]) -> None:
        """Print what MLflow did not take, and why."""
        for line in missing[:_MOST_MISSING]:
            self.print_line(f"warning  not in MLflow: {line}")
        if len(missing) > _MOST_MISSING:
            self.print_line(f"warning  not in MLflow: {len(missing) - _MOST_MISSING} more")


def sync_command(name: str, storage: str, server: str | None = None) -> str:
    """Return the command that exports a search's event log to MLflow; a password in the server's URI is left out."""
    words = ["python", "-m", "search.run", "--sync", name, "--storage", storage]
    return join(words + (["--tracking-uri", without_passwords(server)] if server else []))


def _mlflow_page(site: Site, folder: SearchDir, objective: str) -> str:
    """Return the address of the MLflow page that shows the trials, best first."""
    from search.tracking.mlflow_ui import view_page

    experiment_id = folder.description()["facts"]["experiment_id"]
    if site.offline or not experiment_id:
        command = sync_command(folder.path.name, str(folder.storage))
        return f"no server was asked. Deliver it from a machine that reaches one: {command} --tracking-uri URI"
    page = view_page(experiment_id, objective)
    if site.server is None:
        return f"make ui STORAGE={_for_make(str(folder.storage))}, then http://127.0.0.1:5000/{page}"
    if not site.server.startswith("http"):
        database = quote(without_passwords(site.server))
        return f"python -m mlflow server --backend-store-uri {database}, then http://127.0.0.1:5000/{page}"
    return f"open the server of your --tracking-uri in a browser, at /{page}"


def _for_make(folder: str) -> str:
    """Quote a folder for a shell, and for make, which reads a dollar sign as the begin of a variable."""
    return quote(folder.replace("$", "$$"))
