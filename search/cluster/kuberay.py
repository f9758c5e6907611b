"""Kubernetes: a search as the manifest of a RayJob, which KubeRay runs on a cluster of its own."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from search.cluster.site_config import KubeRaySite
from search.errors import UsageError
from trainables.runtime import telemetry

if TYPE_CHECKING:
    from search.cluster.job_spec import JobSpec

_LONGEST_NAME = 47  # KubeRay appends to it
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")  # no shell or parser on its way reads more into such a word
_HEADER = """\
# Search {name} of {what}. Written by python -m search.submit; read it, change it, then kubectl apply -f this file.
# If the cluster dies, KubeRay makes another, and the search resumes there (--resume auto).
"""
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", **telemetry.OFF}


def manifest(job: JobSpec, site: KubeRaySite) -> str:
    """Write the RayJob in YAML.

    Raises
    ------
    UsageError
        There is no image, the storage would be lost with its pod, or a word would be changed on its way to the job.
    """
    if site.image is None:
        raise UsageError("--image: which container image? One that holds this project: docs/cluster.md, 'Kubernetes'.")
    _require_persistent_storage(job, site)
    _require_plain(job.command)
    document = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _metadata(job, site),
        "spec": {
            "entrypoint": " ".join(job.command),
            "runtimeEnvYAML": yaml.safe_dump(_runtime_environment(site)),
            "submissionMode": "K8sJobMode",
            "backoffLimit": site.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": site.keep_s,
            "rayClusterSpec": _cluster(site, site.image),
        },
    }
    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return _HEADER.format(name=job.name, what=job.workload) + text


def _metadata(job: JobSpec, site: KubeRaySite) -> dict[str, Any]:
    name = job_name(job.name)
    labels = {"app.kubernetes.io/name": "hep-search", "app.kubernetes.io/instance": name}
    return {"name": name, "labels": labels} | ({"namespace": site.namespace} if site.namespace else {})


def job_name(search: str) -> str:
    """Make a valid Kubernetes name, short and in lower case, different for each name of a search."""
    name = re.sub(r"[^a-z0-9]+", "-", search.lower()).strip("-")
    name = name if name[:1].isalpha() else f"search-{name}".rstrip("-")
    if name == search and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(search.encode()).hexdigest()[:6]
    return f"{name[: _LONGEST_NAME - 7].rstrip('-')}-{digest}"


def _runtime_environment(site: KubeRaySite) -> dict[str, Any]:
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    return environment | ({"working_dir": site.working_dir} if site.working_dir else {})


def _cluster(site: KubeRaySite, image: str) -> dict[str, Any]:
    head = {
        # trials run on the workers if there are any
        "rayStartParams": {"num-cpus": "0"} if site.workers else {},
        "template": _pod(site, image, "ray-head", {"cpu": site.head_cpus, "memory": site.head_memory}),
    }
    resources = {"cpu": str(site.cpus_per_worker), "memory": site.memory_per_worker}
    if site.gpus_per_worker:
        resources[site.gpu_resource] = str(site.gpus_per_worker)
    least = site.workers if site.min_workers is None else site.min_workers
    template = _pod(site, image, "ray-worker", resources)
    if site.grows:  # the autoscaler replaces pods itself, and takes one that restarts for a new node
        template["spec"]["restartPolicy"] = "Never"
    workers = {
        "groupName": "workers",
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": site.workers,
        "rayStartParams": {},
        "template": template,
    }
    cluster: dict[str, Any] = {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},  # KubeRay makes the token and gives it to the pods
        "headGroupSpec": head,
    }
    cluster |= {"enableInTreeAutoscaling": True} if site.grows else {}
    return cluster | ({"workerGroupSpecs": [workers]} if site.workers else {})


def _pod(site: KubeRaySite, image: str, name: str, resources: dict[str, str]) -> dict[str, Any]:
    memory = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": site.shared_memory}}
    volumes: list[dict[str, Any]] = [memory]
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    if site.claim:
        volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": site.claim}})
        mounts.append({"name": "shared", "mountPath": site.mount})
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "env": [{"name": key, "value": value} for key, value in (_ENVIRONMENT | site.environment).items()],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": mounts,
    }
    if site.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in site.secrets]
    pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
    if site.service_account:
        pod["serviceAccountName"] = site.service_account
    if site.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in site.pull_secrets]
    if site.node_selector:
        pod["nodeSelector"] = dict(site.node_selector)
    if site.tolerate:
        pod["tolerations"] = [{"key": key, "operator": "Exists"} for key in site.tolerate]
    return {"spec": pod}


def _require_persistent_storage(job: JobSpec, site: KubeRaySite) -> None:
    storage = job.storage
    if "://" in storage:
        return
    if site.claim is None:
        raise UsageError(
            f"--storage {storage}: that folder would be gone with its pod. Name a volume in the site file "
            f'(claim = "...", mounted at {site.mount}).'
        )
    if not PurePosixPath(storage).is_relative_to(site.mount):
        raise UsageError(f"--storage {storage}: not on the volume, which is mounted at {site.mount}.")


def _require_plain(words: list[str]) -> None:
    for word in words:
        if not _PLAIN.fullmatch(word):
            raise UsageError(
                f"{word!r}: on its way to the job a word passes several shells; only letters, digits and _@%+=:,./- "
                "are the same for all of them. For a pattern or a name with spaces, name its folder or a .list file."
            )
