"""Check what Python asks of a search, given as keywords with the names of the flags, as the command line is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from search.config.redaction import without_passwords
from search.config.settings import Budget, Method, SearchFlags, Site
from search.config.spec import unknown
from search.errors import UsageError
from trainables.data.files import DataSettings

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound=DataSettings)


def search_flags(settings: type[S], keywords: Mapping[str, Any]) -> SearchFlags[S]:
    """Make the flags of one search of keywords.

    Raises
    ------
    UsageError
        There is no such keyword, or a value is wrong; names the nearest, or says what was expected.
    """
    groups: dict[str, type[BaseModel]] = {"data": settings, "budget": Budget, "method": Method, "site": Site}
    require_known(keywords, [*(name for group in groups.values() for name in group.model_fields), "json"])
    parts: dict[str, Any] = {name: validated(group, keywords) for name, group in groups.items()}
    file = keywords.get("json")
    return SearchFlags(**parts, json=None if file is None else Path(file))


def require_known(keywords: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for a keyword that does not exist, with the nearest ones."""
    names = tuple(known)
    for name in keywords:
        if name not in names:
            raise unknown("keyword", name, names)


def validated(model: type[M], keywords: Mapping[str, Any]) -> M:
    """Make settings of those keywords that they have; raises UsageError for wrong values."""
    given = {name: _plain(name, keywords[name], model) for name in model.model_fields if name in keywords}
    given = {name: value for name, value in given.items() if value is not None or _may_be_none(model, name)}
    try:
        return model(**given)
    except ValidationError as error:
        raise UsageError("\n".join(_explained(one, given) for one in error.errors())) from None


def _plain(name: str, value: Any, model: type[BaseModel]) -> Any:
    """Return a value as its flag has it: words for several words, KEY=VALUE for a mapping, numbers of Python."""
    if name == "resume" and isinstance(value, bool):
        return "yes" if value else "no"
    if _takes(model, name, tuple):
        return _words(value)
    if _takes(model, name, str) and isinstance(value, list | tuple | set):
        return ",".join(str(one) for one in value)
    if isinstance(value, Path) and _takes(model, name, str):
        return str(value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value  # a number of numpy


def _words(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str | Path):
        return (str(value),)
    if isinstance(value, Mapping):
        return tuple(f"{key}={one}" for key, one in value.items())
    return tuple(str(one) for one in value) if isinstance(value, Iterable) else value


def _takes(model: type[BaseModel], name: str, kind: type) -> bool:
    return kind in _kinds(model.model_fields[name].annotation)


def _may_be_none(model: type[BaseModel], name: str) -> bool:
    return NoneType in _kinds(model.model_fields[name].annotation)


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that an annotation allows, without their parameters."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {kind for one in get_args(annotation) for kind in _kinds(one)}
    return {origin or annotation}


def _explained(error: Any, given: Mapping[str, Any]) -> str:
    """Say which keyword is wrong, what it was, and what was expected."""
    said = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return said
    name = str(error["loc"][0])
    return without_passwords(f"{name}={given.get(name)!r}: {said[:1].lower()}{said[1:]}")
