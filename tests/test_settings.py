"""Laws of durations, names and the frozen settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search.config.settings import Budget, ExecutionFlags, FixedShareFlags, Method, Site, WhereFlags, seconds
from search.promote import Flags


@pytest.mark.parametrize(
    ("said", "meant"),
    [("90s", 90), ("30m", 1_800), ("1h30m", 5_400), ("2d", 172_800), ("1.5h", 5_400), ("1d2h3m4s", 93_784)],
)
def test_durations_are_read_as_people_write_them(said: str, meant: float) -> None:
    assert seconds(said) == meant


@pytest.mark.parametrize("said", ["", "5", "5x", "h", "1 h", "-3s", "1h!", "90S", "1h,2m", "nan", "1e3s"])
def test_what_is_no_duration_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90s"):
        seconds(said)
    with pytest.raises(ValidationError):
        Budget(time_limit=said)


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, rest: int) -> None:
    assert seconds(f"{days}d{hours}h{minutes}m{rest}s") == 86_400 * days + 3_600 * hours + 60 * minutes + rest


def test_a_time_limit_of_nothing_is_refused() -> None:
    """It would be taken for none at all."""
    with pytest.raises(ValidationError):
        Budget(time_limit="0s")


@pytest.mark.parametrize("name", ["a", "zdc-20260101-120000", "LR4.v2_b", "0", "a" * 100])
def test_names_that_can_be_folders_are_taken(name: str) -> None:
    assert Site(name=name).name == name


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "a\nb", "a\n", "ü", "a" * 101, "$HOME"])
def test_names_that_cannot_be_folders_everywhere_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Site(name=name)


@pytest.mark.parametrize("share", [0.25, 1, 4, "2", "0.5", "auto", None])
def test_a_share_is_a_number_or_auto(share: Any) -> None:
    expected = share if share in ("auto", None) else float(share)
    site = Site(cpus_per_trial=share, gpus_per_trial=share)
    assert (site.cpus_per_trial, site.gpus_per_trial) == (expected, expected)


@pytest.mark.parametrize(
    "wrong",
    [{"cpus_per_trial": 0}, {"gpus_per_trial": 1.5}]
    + [{name: share} for name in ("cpus_per_trial", "gpus_per_trial") for share in (-1, "many", "nan", "inf", "Auto")],
)
def test_another_share_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"expected a (number|fraction) .* or auto; found"):
        Site(**wrong)


@pytest.mark.parametrize("wrong", [{"cpus_per_trial": 0}, {"gpus_per_trial": 1.5}, {"cpus_per_trial": "auto"}])
def test_a_fixed_share_is_a_number(wrong: dict[str, Any]) -> None:
    assert FixedShareFlags(cpus_per_trial=0.5, gpus_per_trial=0).gpus_per_trial == 0
    with pytest.raises(ValidationError, match=r"expected a (number|fraction)") as refused:
        FixedShareFlags(**wrong)
    assert "or auto" not in str(refused.value)


def test_flags_of_a_promotion_are_those_of_a_search() -> None:
    where = {"address": "head:6379", "storage": "there", "tracking_uri": "http://server:5000", "cache": "cached"}
    share, execution = {"cpus_per_trial": 2, "gpus_per_trial": 0.5}, {"max_concurrent": 3, "retries": 0}
    flags = Flags(
        "zdc", where=WhereFlags(**where), share=FixedShareFlags(**share), execution=ExecutionFlags(**execution)
    )
    assert flags.site == Site(**where, **share)
    assert flags.budget == Budget(**execution)


@pytest.mark.parametrize("settings", [Budget, Method, Site])
def test_settings_are_frozen_and_refuse_unknown_keys(settings: type) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().seed = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        settings(unknown=3)
    assert all(field.description for field in settings.model_fields.values())


def test_where_things_are_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "SEARCH_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    assert (site.address, site.storage, site.tracking_uri) == (None, "results", None)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("SEARCH_STORAGE", "/scratch/me")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    site = Site()
    assert (site.address, site.storage) == ("head:6379", "/scratch/me")
    assert site.server == "http://server:5000"
    assert Site(address="other:1").address == "other:1"
