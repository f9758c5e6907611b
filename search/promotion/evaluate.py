"""Evaluate models on the holdout and on the validation events, side by side on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch

from search.config.redaction import first_line
from search.config.settings import Site
from search.errors import ClusterError
from search.tuning.concurrency import nodes_with_room
from search.tuning.resources import Share, ray_session, share_of
from search.workload import Promotion
from trainables.base.training import TrainedModel
from trainables.evaluation.scores import Evaluation


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, and the upstream models that it builds on."""

    trained: TrainedModel
    upstream: Mapping[str, TrainedModel]


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model."""

    holdout: Evaluation
    validation: Mapping[str, float]  # on the events that its epoch was chosen on


def evaluate_models(
    promotion: Promotion,
    models: Mapping[str, LoadedModel],
    holdout: Any,
    data: Any,
    site: Site,
    report: Callable[[str], object],
) -> dict[str, ModelScores]:
    """Score every model, by name, on the same events, resampled in the same way.

    Raises
    ------
    ClusterError
        A task failed, with its reason.
    """
    with ray_session(site.address) as nodes:
        share = share_of(site, nodes_with_room(site, nodes, report), None, len(models))
        task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_evaluate)
        shared = [ray.put(one) for one in (promotion, holdout, data)]
        tasks = {name: task.remote(*shared, model, share) for name, model in models.items()}
        try:
            return {name: ray.get(scores) for name, scores in tasks.items()}
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            raise ClusterError(f"The models could not be evaluated: {first_line(cause)}") from error


def _evaluate(promotion: Promotion, holdout: Any, data: Any, model: LoadedModel, share: Share) -> ModelScores:
    torch.set_num_threads(share.threads)
    device = torch.device(share.device)

    def evaluate(events: Any, replicas: int) -> Evaluation:
        return promotion.evaluate(model.trained, model.upstream, events, data, replicas, device)

    return ModelScores(evaluate(holdout, promotion.replicas), evaluate(data.validation, 1).numbers())
