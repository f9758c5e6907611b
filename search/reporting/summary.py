"""What is said at the beginning and at the end of a search, line by line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console

from search.config.settings import Budget, Method, Site
from search.config.spec import Plan
from search.reporting.leaderboard import Leaderboard
from search.storage.disk import files_line, on_network_file_system
from search.storage.location import Storage
from search.storage.names import DESCRIPTION
from search.tracking.exporter import MlflowExporter, NullExporter
from search.tracking.mlflow_ui import view_page
from search.tuning.resources import Share


class Summary:
    """Says it on a console, in whole lines."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def announce(
        self, plan: Plan, budget: Budget, method: Method, data: Iterable[str], warnings: Iterable[str] = ()
    ) -> None:
        """One line each for what is searched, the data, the cache, the budget."""
        self.say(f"search   {plan.name}: {plan.workload.title}; {plan.goal}{_limits(plan)}")
        if plan.demo:
            self.say(
                "demo     no --data: the carried sample, a small budget; --data FILES for yours and the report's own"
            )
        for line in data:
            self.say(f"data     {line}")
        for line in warnings:
            self.say(f"warning  {line}")
        presets = f"{len(plan.space.presets)} presets + {plan.trials} sampled trials, {plan.epochs} epochs each"
        limit = f", at most {budget.time_limit}" if budget.time_limit else ""
        by = f" (by {plan.goal.objective} alone)" if plan.goal.several and plan.scheduler != "none" else ""
        deaf = " (heeds no limits)" if plan.goal.limits and method.sampler not in ("tpe", "gp") else ""
        self.say(f"budget   {presets}, sampler {method.sampler}{deaf}, scheduler {plan.scheduler}{by}{limit}")

    def tell_tracking(self, site: Site, *, asked: bool) -> None:
        """That no server is asked, or that the database had better be one."""
        if not asked:
            self.say("mlflow   no server is asked: what happens waits in the search's journal until --sync delivers it")
        elif site.server is None and on_network_file_system(Storage(site.storage).folder):
            self.say(
                f"warning  {site.storage} is on a network file system, where SQLite locks badly: put --storage on a "
                "local disk, or start a server (see mlflow/README.md) and pass --tracking-uri, or journal for later"
            )

    def device(self, share: Share, gpus: str) -> None:
        """One line for where the trials run."""
        device = f"{share.gpus:g} GPU ({gpus or 'kind unknown'})" if share.gpus else "no GPU"
        self.say(f"device   {share.concurrent} trials at a time, each {share.cpus:g} CPU and {device}")

    def conclude(self, leaderboard: Leaderboard, folder: Path, site: Site) -> None:
        """The leaderboard, what it is worth, and where to look."""
        self._console.print(leaderboard.as_table())
        if leaderboard.goal.several:
            complete = sum(row.rank is not None for row in leaderboard.rows)
            self.say(f"front    {len(leaderboard.front)} of {complete} complete trials, marked *: the Pareto front")
        for line in (*leaderboard.about_limits(), *leaderboard.against_naive()):
            self.say(line)
        counts = sorted(leaderboard.outcomes.items())
        outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts)
        self.say(f"outcomes {outcomes or 'no trial ran'}")
        spent, saved = leaderboard.compute_hours, leaderboard.saved_hours
        self.say(f"compute  {spent:.2f} trial-hours; stopping early saved {saved:.2f}")
        self.say(f"mlflow   {_how_to_look(site, folder, leaderboard.objective)}")
        self.say(files_line(folder))
        if url := Storage(site.storage).url:
            self.say(f"storage  {url}: checkpoints, and a copy of these files")

    def tell_delivery(self, exporter: MlflowExporter | NullExporter, name: str, site: Site) -> None:
        """What MLflow does not have, and how it will."""
        if not exporter.complete:
            self.say(
                f"warning  MLflow was away: {exporter.behind} entries wait in the journal; the leaderboard and the "
                f"folder are whole. When it is back: {sync_command(name, site.storage)}"
            )
        self.tell_refused(exporter.refused)

    def tell_refused(self, refused: Sequence[str]) -> None:
        """What MLflow does not want to have."""
        if refused:
            self.say(f"warning  MLflow refused {len(refused)} writes; the leaderboard and the folder are whole:")
        for reason, count in Counter(refused).most_common(3):
            self.say(f"warning  {count} times {reason}")


def sync_command(name: str, storage: str) -> str:
    """The command that delivers a search's journal."""
    return f"python -m search.run --sync {name} --storage {quote(storage)}"


def _limits(plan: Plan) -> str:
    return "".join(f", {name} at most {limit:g}" for name, limit in plan.goal.limits.items())


def _how_to_look(site: Site, folder: Path, objective: str) -> str:
    """Address of the page that has the trials, best first."""
    experiment_id = json.loads((folder / DESCRIPTION).read_text())["facts"]["experiment_id"]
    if site.silent or not experiment_id:
        command = sync_command(folder.name, str(Storage(site.storage)))
        return f"no server was asked. Deliver it from a machine that reaches one: {command} --tracking-uri URI"
    page = view_page(experiment_id, objective)
    if site.server is None:
        return f"make ui STORAGE={Storage(site.storage)}, then http://127.0.0.1:5000/{page}"
    return f"open the server of your --tracking-uri in a browser, at /{page}"
