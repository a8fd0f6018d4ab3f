"""The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, without a download."""

import torch
from torch import nn

from suite.workloads.data import Data
from suite.workloads.workload import Workload


def load() -> Data:
    """Inputs float32 [N, 64], grey values divided by 16 into [0, 1]; targets int64 [N], classes 0 to 9.

    The first 1,437 examples are the training set; every replica draws its own split.
    """
    from sklearn.datasets import load_digits  # takes a second, and most processes do not need it

    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    targets = torch.tensor(digits.target, dtype=torch.int64)
    return Data(inputs[:1437], targets[:1437], inputs[1437:], targets[1437:])


def model() -> nn.Module:
    """64 - 64 - 10 with one ReLU: 4,810 parameters."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


workload = Workload(
    name="digits",
    about="1,797 images of handwritten digits, 8 x 8 pixels, from scikit-learn; a ReLU network 64-64-10; "
    "cross-entropy.",
    load=load,
    model=model,
    resplit=True,
    batch_sizes=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1437),
    small=1,
    large=1024,
    learning_rate=0.1,
    learning_rates=(0.01, 0.03, 0.1, 0.3, 1.0),
    epochs=10,
    target_loss=0.1,
    max_updates=20_000,
)
