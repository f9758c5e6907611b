"""Quark or gluon jet from three substructure variables, as a LightningModule: nothing of Lightning's is written anew.

python -m search.run examples/jet_tagger.py:WORKLOAD --data jets.npz
"""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from search import LightningTraining, TrainingConfig, Workload, read_table


class Config(TrainingConfig):  # epochs, batch_size and seed are there
    lr: float = 1e-3
    width: int = 32


class JetTagger(lightning.LightningModule):
    def __init__(self, lr, width):
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1))

    def forward(self, x):
        return self.network(x)[:, 0]

    def training_step(self, batch, batch_index):
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self(x), y)

    def validation_step(self, batch, batch_index):
        x, y = batch
        self.log("accuracy", ((self(x) > 0) == (y > 0.5)).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), self.lr)


class Jets(lightning.LightningDataModule):  # train and validation: the arrays of load, split by the platform
    def __init__(self, train, validation, batch_size):
        super().__init__()
        self.train, self.validation, self.batch_size = train, validation, batch_size

    def train_dataloader(self):
        return DataLoader(self._set(self.train), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self._set(self.validation), 1024)

    def _set(self, arrays):
        return TensorDataset(torch.as_tensor(arrays["x"]), torch.as_tensor(arrays["y"]))


def load(files):
    return read_table(files, ("x", "y"))


def suggest(trial):
    return {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "width": trial.suggest_int("width", 4, 128, log=True),
    }


WORKLOAD = Workload(
    name="jet-tagger",
    training=LightningTraining(JetTagger, Jets, inputs=("x",)),
    config=Config,
    load=load,
    suggest=suggest,
    objectives={"accuracy": "max"},
)
