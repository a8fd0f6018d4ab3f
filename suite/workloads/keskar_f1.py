"""Keskar's F1: the fully connected network of "On large-batch training for deep learning" (Keskar et al. 2017) on
MNIST, with batches of 256 and of a tenth of the data."""

from torch import nn

from suite.optimizers import adam
from suite.workloads import mnist
from suite.workloads.workload import Published, Workload

WIDTH, LAYERS = 512, 5


def model() -> nn.Module:
    """784 - 5 x (512, batch norm, ReLU) - 10: 1,462,794 parameters (their table 1)."""
    layers, before = [], 784
    for _ in range(LAYERS):
        layers += [nn.Linear(before, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        before = WIDTH
    return nn.Sequential(*layers, nn.Linear(before, 10))


KESKAR = Published(
    source="Keskar 2017",
    values={
        "train_score": {256: 0.9966, 6000: 0.9992},
        "test_score": {256: 0.9803, 6000: 0.9781},
    },
)
"""Their table 2: the mean of five trainings, with standard deviations from .0001 to .0007."""

workload = Workload(
    name="keskar_f1",
    about="Keskar's F1: MNIST, a ReLU network of five layers of 512 with batch norm, ADAM, batches of 256 against "
    "10% of the data; cross-entropy.",
    load=mnist.load,
    model=model,
    batch_sizes=(256, 1000, 6000),
    small=256,
    large=6000,
    learning_rate=0.001,
    learning_rates=(0.001,),
    optimizer=adam(),
    epochs=10,
    target_loss=0.02,
    max_updates=3000,
    training_batch_sizes=(256, 6000),
    claims=("generalization", "sharpness"),
    published=KESKAR,
)
"""The learning rate is the default of Adam's authors; Keskar et al. do not state theirs."""
