"""Keskar's C1: the shallow convolutional network of "On large-batch training for deep learning" (Keskar et al. 2017)
on CIFAR-10, with batches of 256 and of a tenth of the data. Its trainings take a day on two cores: use a GPU."""

from torch import nn

from suite.optimizers import adam
from suite.workloads import cifar10
from suite.workloads.workload import Published, Workload


def model() -> nn.Module:
    """2 x (64 filters 5 x 5, batch norm, ReLU, max-pool 3) - 384 - 192 - 10, batch norm and dropout 0.5 on the dense
    layers: 1,757,834 parameters. As in their code, the filters keep the size of an image and the pools halve it."""
    layers, before = [], 3
    for _ in range(2):
        layers += [nn.Conv2d(before, 64, 5, padding=2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
        before = 64
    layers.append(nn.Flatten())
    before = 64 * 8 * 8
    for width in (384, 192):
        layers += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5)]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


KESKAR = Published(
    source="Keskar 2017",
    values={
        "train_score": {256: 0.9989, 5000: 0.9966},
        "test_score": {256: 0.8004, 5000: 0.7726},
    },
)
"""Their table 2: the mean of five trainings, with standard deviations from .0002 to .0042."""

workload = Workload(
    name="keskar_c1",
    about="Keskar's C1: CIFAR-10, two layers of 64 filters and two dense ones with batch norm and dropout, ADAM; 256 "
    "against 10% of the data; cross-entropy. A day on two cores: for a GPU.",
    load=cifar10.load,
    model=model,
    batch_sizes=(256, 1000, 5000),
    small=256,
    large=5000,
    learning_rate=0.001,
    learning_rates=(0.001,),
    optimizer=adam(),
    epochs=100,
    target_loss=0.05,
    max_updates=40_000,
    training_batch_sizes=(256, 5000),
    claims=("generalization", "sharpness"),
    published=KESKAR,
)
"""The learning rate is the default of Adam's authors; Keskar et al. do not state theirs."""
