"""Load a model that is to be registered in a fresh process, as its users will, and let it predict.

python -m search.promotion.load_check FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from search.errors import UsageError

LIMIT_S = 600.0


def require_loadable(folder: Path) -> None:
    """Require that a saved MLflow model loads, and predicts its example, in a process that has nothing else.

    Raises
    ------
    UsageError
        It does not. The message has the reason; nothing was registered.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "search.promotion.load_check", str(folder)]
    environment = os.environ | {"PYTHONPATH": path}
    with TemporaryDirectory() as empty:
        try:
            run = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise UsageError(f"The model does not load within {LIMIT_S:.0f} s in a fresh process.") from None
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise UsageError(
            f"The model does not load in a fresh process, as its users would load it: {reason}\n"
            "Nothing was registered. Its code must be importable there: install its package, or set PYTHONPATH."
        )


def main(folder: str) -> None:
    """Load the model in this folder, and predict its example."""
    import numpy as np

    from search.promotion.mlflow_model import PACKAGE, load_saved
    from trainables.export.mlflow_loader import input_example
    from trainables.export.package import read_package

    package = read_package(Path(folder, PACKAGE))
    prediction = np.asarray(load_saved(Path(folder)).predict(input_example(package)))
    expected = (len(package.manifest.example), *package.manifest.output.shape)
    if prediction.shape != expected:
        raise SystemExit(f"expected predictions of shape {expected}, found {prediction.shape}")


if __name__ == "__main__":
    main(sys.argv[1])
