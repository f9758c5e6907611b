"""The loader module that models registered before ``trainables.export`` name in their MLmodel file.

It stays because that file lies on tracking servers and is never rewritten: without this module such a champion would
no longer load. New models name ``trainables.export.mlflow_loader``.
"""

from __future__ import annotations

from trainables.export.mlflow_loader import _load_pyfunc

__all__ = ["_load_pyfunc"]
