"""Batch scripts: nothing in them can be anything but a value, and a real Slurm runs them to the end of the search."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from finished import Finished, registered
from hosts import LOCAL
from slurm_cluster import SlurmCluster, running_slurm
from tiny import TinyConfig, expected_loss, make_tiny

from search.cluster import site_config as site_module
from search.cluster.job_spec import make_job_spec
from search.cluster.site_config import KubeRaySite, SlurmSite, read_site
from search.cluster.slurm import batch_script, sbatch
from search.errors import ClusterError, UsageError
from search.submit import main

SITES = Path(site_module.__file__).parent / "sites"
EVIL = (
    "it's",
    '"',
    "$(touch evil)",
    "`touch evil`",
    "a\nb",
    "; touch evil;",
    "*",
    "\\",
    "{{ 7 * 7 }}",
    "${x}",
    "ü",
)


def script_of(
    *words: str, site: SlurmSite | None = None, classic: bool = False, array: int | None = None, folder: str = "/work"
) -> str:
    job = make_job_spec("zdc", ["--name", "a-search", *words], may_restart=True, remote=False)
    return batch_script(job, site or SlurmSite(), classic=classic, array=array, folder=Path(folder))


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


# --- values stay values


def test_every_word_reaches_the_search_as_it_is(tmp_path: Path) -> None:
    script = script_of("--data", *EVIL)
    place = script.index("search=(")
    array = script[place : script.index("\necho", place)]
    shown = subprocess.run(
        ["bash", "-c", array + "\nprintf '%s\\0' \"${search[@]}\""],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert tuple(shown.stdout.split("\0")[5:-5]) == EVIL
    assert not list(tmp_path.iterdir())


def test_a_share_that_is_to_be_found_out_is_found_out_there() -> None:
    words = ("--gpus-per-trial", "auto", "--cpus-per-trial", "auto")
    for script in (script_of(*words), script_of(*words, classic=True), script_of(*words, array=3)):
        place = script.index("search=(")
        search = " ".join(script[place : script.index(")", place)].split())
        assert "--gpus-per-trial auto --cpus-per-trial auto" in search


@pytest.mark.parametrize("folder", [f"/work/{word}" for word in EVIL])
def test_no_folder_and_no_container_can_run_anything(folder: str, tmp_path: Path) -> None:
    """The lines up to the first command of Slurm, with everything that a site file says in words of its own."""
    site = SlurmSite(
        container=("echo", folder.replace("\n", "")), environment={"PLACE": folder.replace("\n", "")}, modules=("a/1",)
    )
    script = script_of(site=site, folder=folder)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    head = "module() { :; }\ncd() { printf '%s' \"$2\" >../seen; }\n" + script[: script.index("\nset -euo")]
    here = tmp_path / "here"
    here.mkdir()
    subprocess.run(["bash", "-c", head + "\nprintf '%s' \"$PLACE\" >>../seen"], cwd=here, check=True)
    assert (tmp_path / "seen").read_text() == folder + folder.replace("\n", "")
    assert not list(here.iterdir())


@pytest.mark.parametrize("classic", [False, True])
@pytest.mark.parametrize("array", [None, 3])
@pytest.mark.parametrize("site", ["", "perlmutter.toml", "sdcc.toml"])
def test_scripts_please_the_shells_own_critic(classic: bool, array: int | None, site: str) -> None:
    known = read_site(SITES / site if site else None, "slurm", SlurmSite, nodes=2)
    script = script_of("--data", "/a/it's here.root", classic=classic, array=array, site=known)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    checked = subprocess.run(
        ["shellcheck", "--severity=warning", "-"], input=script, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("classic", [False, True])
def test_a_node_that_does_not_come_up_tries_again_and_the_head_does_not(classic: bool, tmp_path: Path) -> None:
    """What each node runs, with a command that fails twice before it works."""
    script = script_of(classic=classic, site=SlurmSite(nodes=2))
    node = script[script.index("node_script=") : script.index("stop_ray()")]
    tries_of = {
        part: re.search(rf'"\$\{{{part}\[@\]}}" "\$node_script" "\$folder" (\d)', script)[1]  # type: ignore[index]
        for part in ("on_head", "on_workers")
    }
    assert tries_of == {"on_head": "1", "on_workers": "3"}
    third_time = 'echo tried >>"$0"; echo no head yet; (($(wc -l <"$0") == 3))'

    def ran(tries: str) -> tuple[int, str, int]:
        count = tmp_path / f"tries-{tries}"
        words = [tmp_path / "node-1-0", tries, "bash", "-c", third_time, count]
        done = subprocess.run(
            ["bash", "-c", node + '\nbash -c "$node_script" "$@"', "-", *map(str, words)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not (tmp_path / "node-1-0").exists()
        return done.returncode, done.stdout, len(count.read_text().splitlines())

    assert ran("3") == (0, "no head yet\n" * 2, 3)
    assert ran("1") == (1, "no head yet\n", 1)


# --- what a site file says


def test_a_site_file_becomes_directives() -> None:
    script = script_of(site=read_site(SITES / "perlmutter.toml", "slurm", SlurmSite, nodes=2, time="30"))
    assert {
        "--job-name=a-search", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=64", "--gpus-per-node=4",
        "--time=30", "--account=m0000_g", "--constraint=gpu", "--qos=regular", "--exclusive", "--requeue",
        "--signal=B:USR1@120", "--open-mode=append", "--output=%x-%j.out",
    } <= set(directives(script))  # fmt: skip
    assert "module load python/3.11" in script
    assert "export SEARCH_STORAGE=/pscratch/sd/u/user/results" in script


def test_gpus_are_asked_for_as_the_site_wants_it() -> None:
    def asked(**more: object) -> str:
        site = SlurmSite.model_validate({"gpus_per_node": 2, **more})
        return next(line for line in directives(script_of(site=site)) if "gpu" in line)

    assert asked() == "--gpus-per-node=2"
    assert asked(gpu_type="a100") == "--gpus-per-node=a100:2"
    assert asked(gpu_option="gres", gpu_type="v100") == "--gres=gpu:v100:2"
    assert not any("gpu" in line for line in directives(script_of()))


def test_without_a_word_of_the_site_the_python_that_writes_is_the_one_that_runs() -> None:
    assert f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:" in script_of()
    assert "export PATH=" not in script_of(site=SlurmSite(setup=("source /env/bin/activate",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[slurm]\npartion = 'x'", "partion is not known; nearest: partition"),
        ("[slurm]\nnodes = 0", "nodes: Input should be greater than or equal to 1"),
        ("[slurm]\ntime = 'soon'", "time: expected Slurm's minutes"),
        ("[slurm]\npartition = 'a b'", "partition: expected a word without spaces"),
        ("[slurm]\npartition = '''a\n#SBATCH --uid=0'''", "partition: expected a word"),
        ("[slurm]\naccount = 'a$(id)'", "account: expected a word"),
        ("[slurm]\noptions = ['--wrap=rm -rf /']", "options.0: expected an option of sbatch"),
        ("[slurm]\nsetup = ['''a\nb''']", "setup.0: expected one line"),
        ("[slurm]\nscratch = 'tmp'", "scratch: expected an absolute path"),
        ("[slurm]\nscratch = '/a/long/path/in/which/no/socket/can/be/made'", "scratch: expected an absolute path of"),
        ("[slurm.environment]\nMLFLOW_TRACKING_PASSWORD = 'x'", "MLFLOW_TRACKING_PASSWORD looks like a secret"),
        (
            "[slurm.environment]\nMLFLOW_TRACKING_URI = 'https://me:hunter2@h'",
            "MLFLOW_TRACKING_URI: holds a pass",
        ),
        ("[slurm.environment]\nA = 'https://h/?x=1&token=hunter2'", "environment.A: holds a password"),
        ("[slurm]\nsetup = ['export A=postgresql://me:hun/ter2@h/db']", "setup.0: holds a password"),
        ("[slurm]\nsetup = ['a', 'export DB_PASSWORD=\"hunter2\"']", "setup.1: holds a password"),
        ("[slurm]\ncontainer = ['docker', '--env', 'AWS_SECRET_ACCESS_KEY=hunter2']", "container.2: holds a password"),
        ("[slurm]\ncontainer = ['docker', 'https://me:hunter2@h/image']", "container.1: holds a password"),
        ("[slurm]\noptions = ['--export=ALL,DB_PASSWORD=hunter2']", "options.0: holds a password"),
        ("[slurm]\naccount = 'a https://me:hunter2@h'", "account: expected a word"),
        ("[slurm.environment]\n'A B' = 'x'", "expected the name of an environment variable"),
        ("[slum]\nnodes = 1", r"expected a table [slurm]"),
        ("[slurm", "not TOML"),
    ],
)
def test_a_wrong_word_in_a_site_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_site(file, "slurm", SlurmSite)
    assert message in str(refused.value)
    assert str(file) in str(refused.value)
    assert "ter2" not in str(refused.value)


def test_a_variable_that_holds_the_secret_may_stand_in_a_site_file(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    setup = ["export RAY_AUTH_TOKEN_PATH=/home/me/token", 'export DB_PASSWORD="$(cat ~/.password)"', "TOKEN= true"]
    file.write_text(f"[slurm]\nsetup = {json.dumps(setup)}\n[slurm.environment]\nRAY_AUTH_TOKEN_PATH = '/home/me/t@a'")
    assert list(read_site(file, "slurm", SlurmSite).setup) == setup


def test_the_carried_site_files_are_right() -> None:
    for file in SITES.glob("*.toml"):
        table, model = ("kuberay", KubeRaySite) if file.stem == "kubernetes" else ("slurm", SlurmSite)
        read_site(file, table, model)


def test_an_array_is_searches_with_names_and_seeds_of_their_own() -> None:
    script = script_of("--seed", "10", array=3)
    assert "--array=0-2" in directives(script)
    assert "name=a-search-$SLURM_ARRAY_TASK_ID" in script
    assert "seed=$((10 + SLURM_ARRAY_TASK_ID))" in script
    with pytest.raises(UsageError, match="--array 0"):
        script_of(array=0)


def test_an_array_whose_names_would_be_too_long_is_refused() -> None:
    assert "--array=0-9" in directives(script_of("--name", "a" * 98, array=10))
    with pytest.raises(UsageError, match=r"--name that is shorter by 1\."):
        script_of("--name", "a" * 98, array=11)


def test_no_secret_is_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mike:hunter2@mlflow.example.org")
    assert "hunter2" not in script_of() + script_of(classic=True)


def test_where_there_is_no_sbatch_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="There is no sbatch on this machine"):
        sbatch(tmp_path / "job.sbatch")


# --- a real Slurm


@dataclass(frozen=True)
class Ran:
    """A job that has ended."""

    state: str
    text: str
    about: dict[str, str]
    done: Finished

    @property
    def hosts(self) -> set[str]:
        """Of all epochs."""
        lines = (json.loads(line) for line in (self.done.folder / "search.journal").read_text().splitlines())
        return {line["host"] for line in lines if line.get("host")}


class Slurm:
    """Submits the tiny workload, inside what stands for a container, as one would from a login node."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.site = folder / "site.toml"
        self.write_site(epoch_seconds=0.2)

    def write_site(self, epoch_seconds: float, warn_s: int = 30) -> None:
        container = [sys.executable, str(Path(__file__).parent / "inside.py")]
        path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
        self.site.write_text(
            f"[slurm]\nscratch = '{LOCAL}'\nwarn_s = {warn_s}\ntime = '10'\nsetup = [{json.dumps(path)}]\n"
            f"container = {json.dumps(container)}\n[slurm.environment]\nTINY_EPOCH_SECONDS = '{epoch_seconds}'\n"
        )

    def submit(self, name: str, *ours: str, words: tuple[str, ...]) -> str:
        """Id of the job, as ``python -m search.submit`` prints it."""
        import io
        from contextlib import chdir, redirect_stdout

        text = io.StringIO()
        flags = ("--site", str(self.site), "--submit", "--overwrite", *ours)  # one of a try before may be there
        search = ("--storage", "results", "--name", name, "--scheduler", "none", "--presets", "none", *words)
        presets = {"slow": {"x": 0.1, "y": 0.0}, "other": {"x": 0.2, "y": 0.0}}
        with chdir(self.folder), redirect_stdout(text), registered(make_tiny(**presets)):
            assert main(["tiny", "--to", "slurm", *flags, "--", *search]) == 0, text.getvalue()
        return text.getvalue().split("job      ")[1].split(";")[0]

    def text(self, name: str, job: str) -> str:
        file = self.folder / f"{name}-{job}.out"
        return file.read_text() if file.exists() else ""

    def ran(self, name: str, job: str, output: str = "", seconds: float = 500) -> Ran:
        state = self.cluster.wait_for_end(job, seconds)
        text = self.text(name, output or job)
        return Ran(state, text, self.cluster.about(job), Finished(0, text, self.folder / "results", name))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # a short name: munge's socket is in it
        work = Path(folder) / "a folder of its own"
        work.mkdir()
        with pytest.MonkeyPatch.context() as patch, running_slurm(Path(folder)) as cluster:
            for name in ("RAY_ADDRESS", "SEARCH_STORAGE", "MLFLOW_TRACKING_URI"):
                patch.delenv(name, raising=False)
            for name, value in cluster.environment.items():
                patch.setenv(name, value)
            yield Slurm(cluster, work)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["symmetric", "classic"])
def test_a_search_runs_on_all_nodes_of_a_job(slurm: Slurm, form: str) -> None:
    slurm.write_site(epoch_seconds=1.5)  # none ends before the other has begun
    options = ("--nodes", "2", *(("--classic",) if form == "classic" else ()))
    ran = slurm.ran(form, slurm.submit(form, *options, words=("--epochs", "8", "--trials", "2")))
    assert ran.state == "COMPLETED", ran.text
    assert ran.hosts == set(slurm.cluster.nodes)
    assert ran.done.board["outcomes"] == {"complete": 2}
    assert "2 trials at a time" in ran.text
    for label in ran.done.children:
        assert [step for step, _ in ran.done.curve(label, "loss")] == list(range(1, 9))
    assert "Send termination request" not in ran.text  # Ray's talk is not the search's


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_whose_time_is_over_goes_back_into_the_queue_and_loses_nothing(slurm: Slurm) -> None:
    words = ("--epochs", "60", "--trials", "0", "--presets", "slow")
    slurm.write_site(epoch_seconds=1.2, warn_s=60)
    job = slurm.submit("cut", "--time", "20", words=words)
    while "slow: epoch" not in slurm.text("cut", job):
        assert slurm.cluster.state(job) in ("RUNNING", "PENDING"), slurm.text("cut", job)
        time.sleep(0.2)
    hours, minutes, seconds = map(int, slurm.cluster.about(job)["RunTime"].split(":"))
    soon = math.ceil((hours * 3600 + minutes * 60 + seconds + 60) / 60)  # it is warned before another minute is over
    slurm.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={soon}")
    while "slow: interrupted after epoch" not in slurm.text("cut", job):
        assert slurm.cluster.state(job) in ("RUNNING", "PENDING", "COMPLETING"), slurm.text("cut", job)
        time.sleep(0.5)
    slurm.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=20")
    ran = slurm.ran("cut", job)
    assert ran.state == "COMPLETED", ran.text
    assert int(ran.about["Restarts"]) >= 1
    assert "the time is nearly over: the search saves itself" in ran.text
    assert "slow: resumes after epoch" in ran.text
    config = TinyConfig(x=0.1)
    assert ran.done.board["outcomes"] == {"complete": 1}
    assert ran.done.curve("slow", "loss") == [
        (step, pytest.approx(expected_loss(config, step))) for step in range(1, 61)
    ]
    assert len({value for _, value in ran.done.curve("slow", "resumed_at")}) >= 2
    assert {run.info.status for run in ran.done.runs} == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_array_runs_one_search_each(slurm: Slurm) -> None:
    slurm.write_site(epoch_seconds=0.2)
    job = slurm.submit("many", "--array", "2", "--classic", words=("--epochs", "2", "--trials", "2"))
    for place in (0, 1):
        ran = slurm.ran(f"many-{place}", f"{job}_{place}", seconds=500)
        assert ran.state == "COMPLETED", (slurm.folder / f"many-{job}_{place}.out").read_text()
        assert ran.done.board["outcomes"] == {"complete": 2}
    first, second = (Finished(0, "", slurm.folder / "results", f"many-{place}") for place in (0, 1))
    points = [{trial.params["x"] for trial in done.study.get_trials()} for done in (first, second)]
    assert points[0].isdisjoint(points[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_that_is_stopped_closes_its_trials_and_is_not_put_back(slurm: Slurm) -> None:
    slurm.write_site(epoch_seconds=0.2)
    job = slurm.submit("dropped", "--classic", words=("--epochs", "2000", "--trials", "0", "--presets", "slow"))
    while "slow: epoch" not in slurm.text("dropped", job):
        assert slurm.cluster.state(job) in ("RUNNING", "PENDING"), slurm.text("dropped", job)
        time.sleep(0.2)
    slurm.cluster.run("scancel", "--batch", "--signal=TERM", job)
    ran = slurm.ran("dropped", job)
    assert (ran.state, ran.about["ExitCode"], ran.about["Restarts"]) == ("FAILED", "130:0", "0")
    assert "SIGTERM: closing the running trials" in ran.text
    assert ran.done.children["slow"].data.tags["outcome"] == "interrupted"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_gpus_of_a_node_are_found(slurm: Slurm) -> None:
    """Two GPUs, two trials on each; nothing trains on them, for there are none."""
    share = ("--gpus-per-trial", "0.5", "--cpus-per-trial", "0.25", "--max-failures", "1", "--retries", "0")
    job = slurm.submit("gpus", "--classic", "--gpus-per-node", "2", words=("--trials", "9", *share))
    ran = slurm.ran("gpus", job)
    assert "device   4 trials at a time, each 0.25 CPU and 0.5 GPU" in ran.text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_of_a_job_stays_on_its_nodes(slurm: Slurm) -> None:
    """After the others: neither its folder nor a process of its Ray."""
    left = slurm.cluster.run("srun", "--nodes=2", "sh", "-c", f"ls {LOCAL}; ps -eo args | grep -c '[r]aylet' || true")
    assert left.split() == ["0", "0"]
