"""Make search specifications for tests, with the defaults that no test looks at."""

from __future__ import annotations

from typing import Any

from tiny import make_tiny

from search.config.settings import Budget, Method, SearchFlags, Site
from search.config.space import Space
from search.config.spec import SearchSpec, make_spec
from search.workload import Workload
from trainables.base.objectives import Goal


def spec_of(
    workload: Workload,
    *,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    method: Method = Method(),  # noqa: B008
    site: Site = Site(),  # noqa: B008
    demo: bool = True,
) -> SearchSpec:
    """The specification that these flags give, of the carried sample or of files."""
    data = workload.settings() if demo else workload.settings(data=("events.root",))
    return make_spec(workload, SearchFlags(data, budget, method, site))


def spec_with(space: Space, goal: Goal, **settled: Any) -> SearchSpec:
    """A specification of this very space and goal."""
    values: dict[str, Any] = {"trials": 1, "epochs": 1, "seed": 0, **settled}
    workload = make_tiny()
    return SearchSpec(
        workload=workload,
        name="s",
        data=workload.settings(),
        budget=Budget(seed=values["seed"]),
        method=Method(),
        site=Site(),
        space=space,
        goal=goal,
        trials=values["trials"],
        epochs=values["epochs"],
        scheduler="none",
    )
