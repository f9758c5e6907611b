"""The model of a package of the tiny workload, as a fresh process loads it: no other module of the tests is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def load(_package: Any) -> Callable[..., Any]:
    return lambda x_N1: x_N1[:, 0]
