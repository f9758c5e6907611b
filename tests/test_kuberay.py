"""RayJob manifests: valid, without secrets, and such that a search outlives the cluster that it ran on."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from rayjob import require_valid, templates

import search.submit
from search.cluster import site_config as site_module
from search.cluster.job_spec import make_job_spec
from search.cluster.kuberay import job_name, manifest
from search.cluster.site_config import KubeRaySite, read_site
from search.errors import UsageError

EXAMPLE = Path(site_module.__file__).parent / "sites" / "kubernetes.toml"
SITE = KubeRaySite(image="registry.example.org/hep-search:1", claim="hep-search")


def text_of(*words: str, site: KubeRaySite = SITE, storage: str = "/shared/results") -> str:
    flags = ["--name", "a-search", "--storage", storage, *words]
    return manifest(make_job_spec("zdc", flags, may_restart=True, remote=True), site)


def job_of(*words: str, **more: Any) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(text_of(*words, **more))
    return job


FULL = KubeRaySite(
    image="registry.example.org:5000/eic/hep-search@sha256:" + "0" * 64,
    namespace="eic", service_account="searches", pull_secrets=("registry",), workers=3, gpus_per_worker=2,
    claim="hep-search", secrets=("mlflow-login", "s3"), environment={"MLFLOW_TRACKING_URI": "https://mlflow.example.org"},
    node_selector={"nvidia.com/gpu.product": "A100"}, tolerate=("nvidia.com/gpu",), head_cpus="500m",
    working_dir="s3://bucket/code.zip",
)  # fmt: skip


GROWING = KubeRaySite(image="registry.example.org/hep-search:1", claim="hep-search", workers=8, min_workers=0)


@pytest.mark.parametrize("site", [SITE, FULL, GROWING, SITE.model_copy(update={"workers": 0})])
def test_manifests_are_what_kuberay_and_kubernetes_take(site: KubeRaySite) -> None:
    require_valid(job_of(site=site))


def test_the_carried_site_file_makes_a_valid_manifest() -> None:
    require_valid(job_of(site=read_site(EXAMPLE, "kuberay", KubeRaySite)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda job: job["spec"].update(entryPoint="x"),
        lambda job: job["spec"].update(backoffLimit="2"),
        lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec"),
        lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("maxReplicas"),
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="maybe"),
        lambda job: job["metadata"].update(name="A_search"),
        lambda job: templates(job)[1]["spec"]["containers"][0].update(images="x"),
        lambda job: templates(job)[0]["spec"].pop("containers"),
    ],
)
def test_the_check_of_manifests_finds_faults(damage: Any) -> None:
    job = copy.deepcopy(job_of(site=FULL))
    damage(job)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError, KeyError)):
        require_valid(job)


def test_what_the_site_says_is_in_the_pods() -> None:
    head, worker = templates(job_of(site=FULL))
    pod, container = worker["spec"], worker["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert "nvidia.com/gpu" not in head["spec"]["containers"][0]["resources"]["limits"]
    assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "hep-search"}} in pod["volumes"]
    assert container["envFrom"] == [{"secretRef": {"name": "mlflow-login"}}, {"secretRef": {"name": "s3"}}]
    assert {"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.example.org"} in container["env"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "A100"}
    assert pod["serviceAccountName"] == "searches"


def test_trials_run_on_workers_and_the_cluster_has_a_token() -> None:
    cluster = job_of()["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert cluster["authOptions"] == {"mode": "token"}
    alone = job_of(site=SITE.model_copy(update={"workers": 0}))["spec"]["rayClusterSpec"]
    assert alone["headGroupSpec"]["rayStartParams"] == {}
    assert "workerGroupSpecs" not in alone


@pytest.mark.parametrize(("least", "grows"), [(0, True), (3, True), (8, False), (None, False)])
def test_a_cluster_grows_where_fewer_workers_may_be_there(least: int | None, grows: bool) -> None:
    site = KubeRaySite(image="i:1", claim="c", workers=8, min_workers=least)
    cluster = job_of(site=site)["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    lowest = 8 if least is None else least
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (lowest, lowest, 8)
    assert cluster.get("enableInTreeAutoscaling", False) is grows
    assert group["template"]["spec"].get("restartPolicy") == ("Never" if grows else None)


def test_more_workers_at_the_start_than_there_may_be_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text("[kuberay]\nworkers = 2\nmin_workers = 0\n")
    with pytest.raises(UsageError, match="min_workers: expected at most workers, which is 2; found 3"):
        read_site(file, "kuberay", KubeRaySite, min_workers=3)
    assert read_site(file, "kuberay", KubeRaySite).grows
    assert not read_site(file, "kuberay", KubeRaySite, min_workers=2).grows


def test_a_search_whose_cluster_is_lost_goes_on_with_the_next() -> None:
    spec = job_of("--trials", "5")["spec"]
    assert spec["backoffLimit"] == 2
    assert shlex.split(spec["entrypoint"]) == [
        "python", "-m", "search.run", "zdc", "--storage", "/shared/results", "--trials", "5", "--name", "a-search",
        "--resume", "auto",
    ]  # fmt: skip


def test_a_stopped_job_has_time_to_close_its_trials() -> None:
    environment = yaml.safe_load(job_of(site=FULL)["spec"]["runtimeEnvYAML"])
    assert int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30
    assert environment["working_dir"] == "s3://bucket/code.zip"


def test_a_share_that_is_to_be_found_out_is_found_out_there() -> None:
    entrypoint = job_of("--gpus-per-trial", "auto", "--cpus-per-trial=auto")["spec"]["entrypoint"]
    assert "--gpus-per-trial auto --cpus-per-trial=auto" in entrypoint


def test_storage_that_dies_with_its_pod_is_refused() -> None:
    with pytest.raises(UsageError, match="would be gone with its pod"):
        text_of(site=SITE.model_copy(update={"claim": None}))
    with pytest.raises(UsageError, match="not on the volume, which is mounted at /shared"):
        text_of(storage="/elsewhere/results")
    with pytest.raises(UsageError, match="not on the volume"):
        text_of(storage="/shared-not/results")
    require_valid(job_of(site=SITE.model_copy(update={"claim": None}), storage="s3://bucket/results"))


def test_a_workload_in_a_file_of_this_machine_is_not_in_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "jets.py"
    assert search.submit.main([f"{file}:WORKLOAD", "--to", "kuberay", "--image", "hep:1", "--"]) == 2
    assert "not in the job's image" in capsys.readouterr().out


def test_without_an_image_there_is_no_manifest() -> None:
    with pytest.raises(UsageError, match="which container image"):
        text_of(site=KubeRaySite(claim="c"))


@pytest.mark.parametrize(
    "word", ["/data/it's", "/data/$(id)", "/data/a b", "/data/*.root", "/data/a\nkind: Pod", "/data/`id`", "/d/;id"]
)
def test_a_word_that_some_shell_might_read_otherwise_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"a word passes several shells"):
        text_of("--data", word)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "x\n    command: [sh]"), ("image", "a b"), ("namespace", "a: b"), ("claim", "{}"), ("mount", "here"),
        ("environment", {"A": "b\nc"}), ("environment", {"AWS_SECRET_ACCESS_KEY": "x"}),
        ("environment", {"A": "https://me:hunter2@h"}), ("secrets", ["a/../b c"]),
        ("memory_per_worker", "much"), ("working_dir", "s3://user:password@bucket/x.zip"),
    ],
)  # fmt: skip
def test_a_site_file_cannot_write_yaml_of_its_own(tmp_path: Path, key: str, value: Any) -> None:
    file = tmp_path / "site.toml"
    table = value if isinstance(value, dict) else {key: value}
    head = f"[kuberay.{key}]" if isinstance(value, dict) else "[kuberay]"
    file.write_text(f"{head}\n" + "".join(f"{name} = {json.dumps(text)}\n" for name, text in table.items()))
    with pytest.raises(UsageError, match=key):
        read_site(file, "kuberay", KubeRaySite)


def test_values_that_look_like_yaml_stay_text() -> None:
    odd = {"A": "yes", "B": "1e3", "C": "a: b # c", "D": '"', "E": "{{ x }}", "F": "ü", "G": "- x", "H": ""}
    container = templates(job_of(site=SITE.model_copy(update={"environment": odd})))[0]["spec"]["containers"][0]
    assert {entry["name"]: entry["value"] for entry in container["env"] if entry["name"] in odd} == odd


def test_names_are_kubernetes_names_and_stay_different() -> None:
    assert job_name("a-search") == "a-search"
    names = ["A-search", "a_search", "a.search", "2026-search", "x" * 100, "x" * 99, "7", "a-" * 30 + "b"]
    made = [job_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        require_valid(job_of() | {"metadata": {"name": name}})


def test_no_secret_is_in_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mike:hunter2@mlflow.example.org")
    assert "hunter2" not in text_of(site=FULL)
