"""A machine that is to be silent stays silent: no name is looked up but the tracking server's, whoever asks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TRACKING = "tracking.example.org"
SILENCED = ("RAY_", "MLFLOW_", "ORT_", "DO_NOT_TRACK", "HF_", "PYTEST_", "CI", "GITHUB_", "SEARCH_")  # by whoever tests
# In namespaces of its own: loopback alone, and a name server that writes down what it is asked.
SCRIPT = """
set -eu
ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
mount --bind hosts /etc/hosts
"$PY" "$TESTS/name_server.py" names {tracking} &
MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "$PY" -m mlflow server --host 127.0.0.1 \\
    --port 5000 --workers 1 --allowed-hosts '*' --backend-store-uri "sqlite:///$PWD/server.db" \\
    --artifacts-destination "$PWD/artifacts" > server.log 2>&1 &
until "$PY" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health')" 2> /dev/null; do sleep 1; done
: > asked-before
export MLFLOW_TRACKING_URI=http://{tracking}:5000 SEARCH_STORAGE="$PWD/results"
"$PY" -m search.run --help
"$PY" -m search.run pt-energy --name quiet --trials 1 --presets none --epochs 2
code=0; "$PY" -m search.promote pt-energy --search quiet --top 1 --seeds 1 --force "to see it all" || code=$?
echo "promoted $code"
"$PY" -m search.promote pt-energy --export model
"$PY" -m search.report quiet
"$PY" -m search.doctor || true
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which all commands ran, and what they printed."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("namespaces need root and iproute2: apt-get install iproute2")
    folder, tests = tmp_path_factory.mktemp("silent"), Path(__file__).parent
    (folder / "home").mkdir()
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SILENCED)}
    environment |= {"PY": sys.executable, "TESTS": str(tests), "PYTHONPATH": str(tests.parent)}
    environment |= {"HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / "printed").open("w") as printed:
        ended = subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c",
             SCRIPT.format(tracking=TRACKING)],
            cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, timeout=1500, check=False,
        )  # fmt: skip
    text = (folder / "printed").read_text()
    if "Operation not permitted" in text and not (folder / "names").exists():
        pytest.skip(f"this machine makes no namespaces: {text}")
    assert ended.returncode == 0, text
    return folder, text


@pytest.mark.timeout(1800)
def test_no_name_is_looked_up_but_the_tracking_servers(asked: tuple[Path, str]) -> None:
    folder, text = asked
    names = set((folder / "names").read_text().split())
    assert names == {TRACKING}, text


@pytest.mark.timeout(1800)
def test_all_of_it_was_done(asked: tuple[Path, str]) -> None:
    folder, text = asked
    assert "outcomes 1 complete" in text
    assert "promoted 0" in text
    assert (folder / "model" / "model.json").exists(), sorted(folder.glob("model/*"))
    assert (folder / "results" / "searches" / "quiet" / "report.html").exists()
    assert "fine     tracking: " in text
