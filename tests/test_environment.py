"""Laws of environment variables that are changed for a while."""

from __future__ import annotations

import os

import pytest

from search.config.environment import changed_environment


def test_variables_are_changed_inside_and_restored_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an exception, and whatever happened to them inside."""
    monkeypatch.setenv("SEARCH_TEST_SET", "before")
    monkeypatch.setenv("SEARCH_TEST_UNSET", "before")
    monkeypatch.delenv("SEARCH_TEST_NEW", raising=False)
    changes = {"SEARCH_TEST_SET": "inside", "SEARCH_TEST_UNSET": None, "SEARCH_TEST_NEW": "inside"}

    def fail() -> None:
        with changed_environment(changes):
            assert {name: os.environ.get(name) for name in changes} == changes
            del os.environ["SEARCH_TEST_NEW"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (os.environ["SEARCH_TEST_SET"], os.environ["SEARCH_TEST_UNSET"]) == ("before", "before")
    assert "SEARCH_TEST_NEW" not in os.environ
