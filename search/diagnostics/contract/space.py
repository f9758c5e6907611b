"""Laws of the search space and of the configuration that its points become."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from search.config.space import Space
from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, NotGiven, law
from search.diagnostics.contract.points import draw
from search.diagnostics.contract.subject import DRAWS, Subject
from trainables.base.training import TrainingConfig

POINTS = "sampled-points-build-a-configuration"


@law(
    "Each point that suggest() samples builds a configuration, which keeps its values.",
    cause="a name differs between suggest() and the configuration, or a range goes beyond what a field allows",
    remedy="give each key of suggest()'s dict a field of that name, whose type and limits hold the whole range",
)
def sampled_points_build_a_configuration(subject: Subject) -> None:
    config = subject.workload.config
    if not (isinstance(config, type) and issubclass(config, TrainingConfig)):
        raise LawBroken(
            f"the configuration {config!r} is no subclass of TrainingConfig",
            "it is a dataclass or another model",
            "derive it from search.TrainingConfig, which brings epochs, batch_size and seed",
        )
    for one in draw(subject.workload.suggest, DRAWS):
        if not isinstance(one.point, dict):
            raise LawBroken(f"suggest() returns {type(one.point).__name__}, not a dict of hyperparameters")
        for name in one.point:
            if name not in config.model_fields:
                near = get_close_matches(name, list(config.model_fields), n=1)
                hint = f"; nearest: {near[0]!r}" if near else ""
                raise LawBroken(f"suggest() gives {name!r}, which {config.__name__} does not have{hint}")
        _check_kept(config, one.point)


def _check_kept(config: type[TrainingConfig], point: dict[str, Any]) -> None:
    try:
        kept = config(**point).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the point"
        raise LawBroken(f"{config.__name__} refuses {where} = {first['input']!r}: {first['msg']}") from error
    for name, value in point.items():
        if kept[name] != value:
            raise LawBroken(f"{config.__name__} makes {kept[name]!r} of {name} = {value!r}")


@law(
    "A configuration refuses a name that it does not have, and cannot be changed.",
    cause='the configuration overrides model_config, for example with extra="allow"',
    remedy='leave model_config as TrainingConfig has it: frozen=True, extra="forbid"',
    after=(POINTS,),
)
def a_misspelt_hyperparameter_is_refused(subject: Subject) -> None:
    config = subject.workload.config
    misspelt = f"{next(reversed(config.model_fields))}_misspelt"
    try:
        config(**{misspelt: 8})
    except ValidationError:
        pass
    else:
        raise LawBroken(f"{config.__name__}({misspelt}=8) is accepted, so a typing error would change nothing")
    try:
        config().epochs = 2  # type: ignore[misc]
    except ValidationError:
        return
    raise LawBroken(f"a field of {config.__name__} can be set to another value")


@law(
    "Hyperparameters named as optional or mutable are searched, and none is both.",
    cause="a name of `optional` or `mutable` is misspelt, or suggest() no longer asks for it",
    remedy="name only what suggest() asks an Optuna trial for, under the same name",
    after=(POINTS,),
)
def what_is_optional_or_mutable_is_searched(subject: Subject) -> None:
    workload = subject.workload
    optional, mutable = given.optional(workload), given.mutable(workload)
    if not optional and not mutable:
        raise NotGiven("the workload gives no optional and no mutable hyperparameters")
    searched = Space(workload.suggest, {}, {}, {}).distributions
    for what, names in (("optional", optional), ("mutable", mutable)):
        if absent := [name for name in names if name not in searched]:
            raise LawBroken(f"{what} names {absent[0]!r}, which suggest() never asks for; it asks for {_all(searched)}")
    if both := [name for name in optional if name in mutable]:
        raise LawBroken(f"{both[0]!r} is named as optional, which is fixed by default, and as mutable")


def _all(names: Any) -> str:
    return ", ".join(names) or "nothing"
