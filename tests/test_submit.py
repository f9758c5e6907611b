"""The command that submits: mistakes are found before anything leaves this machine, and nothing secret leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster.job_spec import JobSpec, has_flag, make_job_spec, without_flag, write_script
from search.errors import UsageError
from search.submit import main

UNUSED_ADDRESS = "http://127.0.0.1:9"  # a command that got as far as this would report that nothing answers there


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder and an environment without our variables."""
    for name in ("SEARCH_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)


def fails(*words: str) -> int:
    """The exit code, whichever way the command ends."""
    try:
        return main(list(words))
    except SystemExit as end:
        return int(end.code or 0)


def spec(*words: str, may_restart: bool = False, remote: bool = False) -> JobSpec:
    return make_job_spec("zdc", list(words), may_restart=may_restart, remote=remote)


# --- words


@pytest.mark.parametrize("target", ["ray", "slurm", "kuberay"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trails", "3"), "--trials"),
        (("--set", "hiden_dim=3"), "Did you mean hidden_dim"),
        (("--presets", "test26"), "preset 'test26'"),
        (("--name", "../up"), "letters, digits"),
        (("--name", "a'; rm -rf $HOME; '"), "letters, digits"),
        (("--address", "10.0.0.1:6379"), "the job joins the cluster"),
    ],
)
def test_a_mistake_in_the_search_is_found_before_anything_is_sent(
    target: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ("--address", UNUSED_ADDRESS) if target == "ray" else ()
    assert fails("zdc", "--to", target, *where, "--", "--storage", "/shared/results", *words) == 2
    printed = capsys.readouterr()
    assert message in printed.out + printed.err
    assert UNUSED_ADDRESS not in printed.out
    assert not list(tmp_path.iterdir())


def test_without_a_target_the_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails("zdc", "--", "--trials", "3") == 2
    assert fails("--help") == 0
    printed = capsys.readouterr()
    for target in ("ray", "slurm", "kuberay", "status", "pt-energy"):
        assert target in printed.out
        assert target in printed.err


@pytest.mark.parametrize("target", ["ray", "slurm", "kuberay"])
def test_an_unknown_workload_and_an_unknown_flag_are_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails("zcd", "--to", target) == 2
    assert "zdc" in capsys.readouterr().err
    assert fails("zdc", "--to", target, "--wurst", "3") == 2
    assert fails("zdc", "--to", target, "--help") == 0


def test_flags_of_another_target_are_refused() -> None:
    assert fails("zdc", "--to", "ray", "--submit") == 2
    assert fails("zdc", "--to", "slurm", "--no-wait") == 2


def test_a_share_that_is_to_be_found_out_goes_with_the_job() -> None:
    words = ("--gpus-per-trial", "auto", "--cpus-per-trial=auto")
    assert spec(*words).flags == words


# --- secrets


@pytest.mark.parametrize("target", ["ray", "slurm", "kuberay"])
def test_a_password_among_the_flags_is_refused_and_not_repeated(
    target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ("--address", UNUSED_ADDRESS) if target == "ray" else ()
    uri = "https://mike:hunter2@mlflow.example.org"
    assert fails("zdc", "--to", target, *where, "--", "--storage", "/shared/r", "--tracking-uri", uri) == 2
    printed = capsys.readouterr()
    assert "MLFLOW_TRACKING_PASSWORD" in printed.out
    assert "hunter2" not in printed.out + printed.err
    assert not list(tmp_path.iterdir())


def test_a_server_with_a_password_or_of_this_machine_alone_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("https://mike:hunter2@mlflow.example.org", "http://127.0.0.1:5000", "http://localhost:5000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "--tracking-uri" not in spec().flags


def test_what_the_environment_says_here_travels_as_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("SEARCH_STORAGE", "/shared/results")
    made = spec(remote=True)
    assert made.flags == ("--storage", "/shared/results", "--tracking-uri", "https://mlflow.example.org")
    assert made.storage == "/shared/results"
    asked = spec("--storage", "/other", "--tracking_uri=https://another.example.org", remote=True)
    assert asked.flags == ("--storage", "/other", "--tracking_uri=https://another.example.org")


SITE = """
[slurm.environment]
SEARCH_STORAGE = "/shared/of-the-site"
MLFLOW_TRACKING_URI = "https://site.example.org"
[kuberay]
image = "x"
claim = "y"
[kuberay.environment]
SEARCH_STORAGE = "/shared/of-the-site"
MLFLOW_TRACKING_URI = "https://site.example.org"
"""


@pytest.mark.parametrize("target", ["slurm", "kuberay"])
def test_what_the_site_says_goes_before_what_this_shell_says(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://shell.example.org")
    monkeypatch.setenv("SEARCH_STORAGE", "/shared/of-the-shell")
    (tmp_path / "site.toml").write_text(SITE)
    command = ["zdc", "--to", target, "--site", "site.toml", "--script", "job", "--overwrite"]
    assert main(command) == 0
    text = (tmp_path / "job").read_text()
    assert "shell" not in text
    assert "--storage /shared/of-the-site" in text
    assert "https://site.example.org" in text
    assert main([*command, "--", "--storage", "/shared/of-the-flags"]) == 0
    assert "--storage /shared/of-the-site" not in (tmp_path / "job").read_text()


# --- paths


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--storage", "results"),
        ("--storage", "/shared/r", "--data", "zdc.root"),
        ("--storage", "/shared/r", "--data", "/shared/zdc.root", "--holdout", "h.root"),
        ("--storage", "/shared/r", "--data", "/shared/zdc.root", "--validation", "v.root"),
        ("--storage", "/shared/r", "--cache", "cache"),
        ("--storage", "/shared/r", "--json", "board.json"),
    ],
)
def test_a_path_that_means_nothing_on_the_cluster_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="a path of this machine means nothing on the cluster"):
        spec(*words, remote=True)
    assert spec(*words).workload == "zdc"


def test_absolute_paths_and_urls_pass() -> None:
    words = ("--storage", "s3://bucket/results", "--data", "root://host//a.root", "/shared/b.root")
    assert spec(*words, remote=True).flags == words


# --- which search it is


def test_a_search_gets_a_name_and_keeps_its_own() -> None:
    assert spec("--name", "mine", "--trials", "3").command[-4:] == ["--trials", "3", "--name", "mine"]
    made = spec("--trials", "3")
    assert made.name.startswith("zdc-")
    assert made.command[-2:] == ["--name", made.name]


@pytest.mark.parametrize("words", [(), ("--resume",), ("--resume", "yes"), ("--resume=no",), ("--resume", "auto")])
def test_a_job_that_may_start_again_goes_on_with_what_it_finds(words: tuple[str, ...]) -> None:
    made = spec("--name", "mine", *words, may_restart=True)
    assert made.command[4:] == ["--name", "mine", "--resume", "auto"]


def test_a_job_that_starts_once_is_resumed_only_where_that_is_asked() -> None:
    assert "--resume" not in spec("--name", "mine").command
    assert spec("--resume", "--name", "mine").command[-2:] == ["--resume", "yes"]


def test_flags_are_found_and_taken_out_in_each_spelling() -> None:
    words = ["--data", "a", "b", "--seed", "3", "--tracking_uri=x", "--name=n", "--resume", "--trials", "2"]
    assert has_flag(words, "--tracking-uri")
    assert not has_flag(words, "--track")
    for flag in ("--seed", "--name", "--resume", "--tracking-uri"):
        words = without_flag(words, flag)
    assert words == ["--data", "a", "b", "--trials", "2"]


def test_the_seed_is_kept() -> None:
    assert spec("--seed", "7").command[-2:] == ["--seed", "7"]


# --- files


def test_a_script_that_somebody_may_have_changed_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("zdc", "--to", "slurm", "--script", "job.sbatch")
    assert main([*command]) == 0
    (tmp_path / "job.sbatch").write_text("mine")
    assert main([*command]) == 2
    assert "--overwrite" in capsys.readouterr().out
    assert (tmp_path / "job.sbatch").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "job.sbatch").read_text().startswith("#!/bin/bash")


def test_a_script_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        write_script("", tmp_path / "nowhere" / "job.sbatch", overwrite=False)


@pytest.mark.parametrize(
    ("script", "message"),
    [(".", "that is a folder"), ("/proc/job.sbatch", "cannot be written"), ("a" * 300, "File name too long")],
)
@pytest.mark.parametrize("target", ["slurm", "kuberay"])
def test_a_script_that_cannot_be_written_is_reported_in_one_sentence(
    target: str, script: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.toml"
    site.write_text("[slurm]\n[kuberay]\nimage = 'x'\nclaim = 'y'")
    words = ("--site", str(site), "--script", script, "--overwrite", "--", "--storage", "/shared/results")
    assert main(["zdc", "--to", target, *words]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: --script {script}: ")
    assert message in line


@pytest.mark.parametrize("folder", ["[old]", "[/old]", "[red]"])
def test_brackets_are_shown_as_they_are(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / folder.replace("/", "")).mkdir()
    script = f"{folder.replace('/', '')}/[/b]job.sbatch".replace("[/b]", "[b]")
    assert main(["zdc", "--to", "slurm", "--script", script]) == 0
    assert f"script   {script}" in capsys.readouterr().out
    assert main(["zdc", "--to", "slurm", "--", "--data", f"{folder}/x", "--set", f"{folder}=1"]) == 2
    assert folder in capsys.readouterr().out
