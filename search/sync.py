"""Delivers what a search could not tell MLflow while it ran: python -m search.run --sync NAME."""

from __future__ import annotations

from rich.console import Console

from search.command import Sync
from search.delivery import Delivery
from search.errors import TrackingError, UsageError
from search.folder import SearchFolder
from search.outbox import Outbox
from search.settings import Site
from search.storage import Storage
from search.summary import Summary
from search.target import MlflowTarget
from search.tracking import RunFacts, client_of
from trainables.goal import Goal


def sync(command: Sync, console: Console) -> None:
    """Deliver the rest of the journal.

    Raises
    ------
    UsageError
        There is no such search.
    NameTakenError
        It is running.
    TrackingError
        MLflow is still away.
    """
    summary, site = Summary(console), Site(storage=command.storage, tracking_uri=command.tracking_uri)
    storage = Storage.of(site)
    folder = SearchFolder(storage, command.sync)
    folder.fetch()
    if not folder.begun:
        raise UsageError(f"--sync: no search named {command.sync!r} is in {storage}.")
    with folder.held(say=summary.say):
        folder.mend()
        about, outbox = folder.description(), Outbox(folder.path)
        goal, facts = Goal(about["objectives"], about["limits"]), RunFacts(**about["facts"])
        target = MlflowTarget(client_of(site.server, storage.folder), facts, goal, outbox)
        delivery = Delivery(folder.journal, target, summary.say)
        waiting = delivery.behind
        delivery.start()
        if not delivery.close():
            raise TrackingError(
                f"MLflow is still away; {delivery.behind} of {waiting} entries wait in {folder.journal}. "
                "Check --tracking-uri (or $MLFLOW_TRACKING_URI), or try again later."
            )
        summary.say(f"sync     {waiting} entries delivered; MLflow has all of search {command.sync}")
        summary.tell_refused(delivery.refused)
