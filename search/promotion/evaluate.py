"""Evaluates models on the holdout, side by side on the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from search.config.redaction import first_line
from search.config.settings import Site
from search.errors import ClusterError, UsageError
from search.storage.trial_record import TrialRecord
from search.tuning.resources import Share, ray_session, share_of
from search.workloads import Promotion
from trainables.base.trainable import best_weights
from trainables.base.training import TrainedModel
from trainables.evaluation.scores import Evaluation


@dataclass(frozen=True)
class Contender:
    """A model, and the models that it builds on."""

    model: TrainedModel
    branches: Mapping[str, TrainedModel]


@dataclass(frozen=True)
class Judged:
    """What a model scores."""

    holdout: Evaluation
    validation: Mapping[str, float]  # of the events that its epoch was chosen on


def kept_model(workload: str, record: TrialRecord) -> TrainedModel:
    """The weights of a complete trial's best epoch, from its checkpoint.

    Raises
    ------
    UsageError
        They are gone.
    """
    try:
        if record.checkpoint is None:
            raise FileNotFoundError("it has no checkpoint")
        with record.checkpoint.as_folder() as folder:
            weights = best_weights(Path(folder))
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"The weights of {record.label} cannot be read ({first_line(error)}). Search with a larger --keep."
        ) from error
    return TrainedModel(workload, record.label, record.hyperparameters, weights)


def judge(
    promotion: Promotion, contenders: Mapping[str, Contender], holdout: Any, data: Any, site: Site
) -> dict[str, Judged]:
    """Each contender's scores, by name. Every one sees the same events, resampled in the same way.

    Raises
    ------
    ClusterError
        A task failed; what it said.
    """
    with ray_session(site.address) as nodes:
        share = share_of(site, nodes, None, len(contenders))
        task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_judge)
        shared = [ray.put(one) for one in (promotion, holdout, data)]
        waiting = {name: task.remote(*shared, contender, share) for name, contender in contenders.items()}
        try:
            return {name: ray.get(one) for name, one in waiting.items()}
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            raise ClusterError(f"The models could not be evaluated: {first_line(cause)}") from error


def _judge(promotion: Promotion, holdout: Any, data: Any, contender: Contender, share: Share) -> Judged:
    torch.set_num_threads(share.threads)
    device = torch.device(share.device)

    def evaluate(events: Any, replicas: int) -> Evaluation:
        return promotion.evaluate(contender.model, contender.branches, events, data, replicas, device)

    return Judged(evaluate(holdout, promotion.replicas), evaluate(data.validation, 1).numbers())
