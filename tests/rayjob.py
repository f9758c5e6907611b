"""What KubeRay's custom resource definition says of a RayJob, restated as a strict JSON schema.

Names, types, required fields and enumerations are those of ray.io/v1 in KubeRay 1.5.1 (``authOptions`` came with it).
Pod templates are Kubernetes' own and are checked against its published schema.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = "1.30"
_TEXT, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_POD: dict[str, Any] = {"type": "object"}


def _object(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_HEAD = _object(
    ("rayStartParams", "template"),
    serviceType=_TEXT, headService={"type": "object"}, enableIngress=_FLAG, rayStartParams=_TEXTS, template=_POD,
)  # fmt: skip
_WORKERS = _object(
    ("groupName", "maxReplicas", "minReplicas", "rayStartParams", "template"),
    groupName=_TEXT, replicas=_NUMBER, minReplicas=_NUMBER, maxReplicas=_NUMBER, numOfHosts=_NUMBER,
    idleTimeoutSeconds=_NUMBER, suspend=_FLAG, rayStartParams=_TEXTS, template=_POD,
    scaleStrategy=_object(workersToDelete={"type": "array", "items": _TEXT}),
)  # fmt: skip
_CLUSTER = _object(
    ("headGroupSpec",),
    rayVersion=_TEXT, headGroupSpec=_HEAD, workerGroupSpecs={"type": "array", "items": _WORKERS},
    enableInTreeAutoscaling=_FLAG, suspend=_FLAG, managedBy=_TEXT,
    headServiceAnnotations=_TEXTS, gcsFaultToleranceOptions={"type": "object"},
    authOptions=_object(mode={"enum": ["disabled", "token"]}, secretName=_TEXT, enableK8sTokenAuth=_FLAG),
)  # fmt: skip
_SPEC = _object(
    activeDeadlineSeconds=_NUMBER, backoffLimit=_NUMBER, clusterSelector=_TEXTS, entrypoint=_TEXT,
    entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"}, entrypointResources=_TEXT,
    jobId=_TEXT, managedBy=_TEXT, metadata=_TEXTS, rayClusterSpec=_CLUSTER, runtimeEnvYAML=_TEXT,
    shutdownAfterJobFinishes=_FLAG, submitterConfig=_object(backoffLimit=_NUMBER), submitterPodTemplate=_POD,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, suspend=_FLAG,
    ttlSecondsAfterFinished=_NUMBER, deletionStrategy={"type": "object"},
)  # fmt: skip
_METADATA = _object(
    ("name",),
    name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47},
    namespace={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
    labels=_TEXTS, annotations=_TEXTS,
)  # fmt: skip
SCHEMA = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"}, kind={"const": "RayJob"}, metadata=_METADATA, spec=_SPEC,
)  # fmt: skip


def require_valid(job: dict[str, Any]) -> None:
    """Raise where KubeRay or Kubernetes would refuse the manifest, or silently drop a part of it."""
    jsonschema.Draft202012Validator(SCHEMA).validate(job)
    for template in templates(job):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the head, and of each group of workers."""
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", []))]
