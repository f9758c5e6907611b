"""What a promotion has left, as a Python object: its verdict, its table of holdout scores, the version."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from search.engine.search_run import INTERRUPTED
from search.promotion.gate import Verdict
from search.promotion.result import RESULT
from search.promotion.run import PROMOTED, PromotionEnd
from trainables.evaluation.scores import Difference


class PromotionRun:
    """One promotion: ``promoted``, ``version`` (None: not promoted), ``code`` of the command, ``interrupted``."""

    def __init__(self, end: PromotionEnd) -> None:
        self.code, self.version = end.code, end.version
        self.promoted, self.interrupted = end.code == PROMOTED, end.code == INTERRUPTED
        file = end.folder / RESULT
        self._result: dict[str, Any] = json.loads(file.read_text()) if file.exists() and not self.interrupted else {}
        self.candidate: str = self._result.get("candidate", "")

    @property
    def verdict(self) -> Verdict | None:
        """What the gate decided, with its reasons; None: the promotion was interrupted before."""
        if not self._result:
            return None
        found = self._result["verdict"]
        differences = {name: Difference(**one) for name, one in found["differences"].items()}
        return Verdict(found["passed"], tuple(found["reasons"]), differences)

    @property
    def table(self) -> pd.DataFrame:
        """Scores on the holdout: a line for each finalist, the champion, the preset and naive predictors."""
        return pd.DataFrame(
            [
                {"model": line["label"], "kind": line["kind"], "seeds": line["seeds"], "searched": line["searched"]}
                | {name: line["mean"].get(name) for name in self._result["metrics"]}
                for line in self._result.get("lines", ())
            ]
        )

    def __repr__(self) -> str:
        verdict = self.verdict
        return f"<promotion: {verdict.explanation if verdict else 'no verdict'}; version {self.version}>"

    def _repr_html_(self) -> str:
        verdict = self.verdict
        said = f"{'promoted' if self.promoted else 'not promoted'}: {verdict.explanation if verdict else 'interrupted'}"
        return f"<p>{said}</p>{self.table.to_html(index=False)}"
