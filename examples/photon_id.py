"""Photon or pi0 from eight shower shapes: a workload of one's own, in one file, outside of the repository."""

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from search import TorchTraining, TrainingConfig, Workload, run

SHAPES = [f"shape_{i}" for i in range(8)]


class Config(TrainingConfig):  # epochs, batch_size and seed are there
    lr: float = 1e-3
    width: int = 32


class PhotonID(TorchTraining):  # random state, checkpoints, resume and device are the platform's
    def build(self):
        net = nn.Sequential(
            nn.Linear(8, self.config.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(self.config.width, 1)
        )
        return net, torch.optim.Adam(net.parameters(), self.config.lr)

    def loss(self, x, y):
        return nn.functional.binary_cross_entropy_with_logits(self.network(x)[:, 0], y)

    def score(self, x, y):
        return {"auc": roc_auc_score(y, self.predict(x)[:, 0])}


def load(files):  # any format: arrays by name, one row an event; the platform splits by content and keeps the holdout
    table = pd.concat(map(pd.read_parquet, files))
    return {"x": table[SHAPES].to_numpy("f4"), "y": table["is_photon"].to_numpy("f4")}


def suggest(trial):
    return {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "width": trial.suggest_int("width", 4, 128, log=True),
    }


WORKLOAD = Workload(
    name="photon-id", training=PhotonID, config=Config, load=load, suggest=suggest, objectives={"auc": "max"}
)

if __name__ == "__main__":
    result = run(WORKLOAD, data="shapes/*.parquet", name="first", trials=4, epochs=5)
    print(result.trials[["label", "outcome", "auc", "lr", "width"]])  # pandas
    print(result.curves("auc"))  # epochs x trials
    print(result.best.model().score(**result.validation))  # the kept epoch
