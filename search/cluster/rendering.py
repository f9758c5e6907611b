"""Fills in the template of a script so that no value can become anything but a value."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from jinja2 import Environment, PackageLoader, StrictUndefined


class Verbatim(str):
    """Text that is code already: made here, or written by the user as code."""


def shell_words(words: Iterable[object]) -> Verbatim:
    """Words as the shell reads them back, one each."""
    return Verbatim(" ".join(quote(str(word)) for word in words))


def render_shell(template: str, **values: object) -> str:
    """A shell script in which every value is one word, unless it is ``Verbatim``."""
    environment = Environment(
        loader=PackageLoader("search.cluster", "."),
        undefined=StrictUndefined,
        comment_start_string="<#",  # Jinja's own one is the beginning of ${#array[@]}
        comment_end_string="#>",
        finalize=lambda value: value if isinstance(value, Verbatim) else quote(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # this is not HTML
    )
    return environment.get_template(template).render(values)
