"""CIFAR-10: 50,000 + 10,000 colour images of ten classes (Krizhevsky 2009), in the official binary layout."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from suite.errors import UserError
from suite.workloads.data import Data
from suite.workloads.data_home import archive_folder
from suite.workloads.workload import Published, PublishedNoise, Workload

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
RECORD_BYTES = 3073
"""A label, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row."""


def load() -> Data:
    """Inputs float32 [N, 3, 32, 32], values divided by 255 into [0, 1]; targets int64 [N], classes 0 to 9."""
    folder = archive_folder(FOLDER, URL, SHA256)
    train = np.concatenate([records(folder / f"data_batch_{number}.bin") for number in range(1, 6)])
    test = records(folder / "test_batch.bin")
    return Data(images(train), labels(train), images(test), labels(test))


def records(path: Path) -> np.ndarray:
    """The records of a file, uint8 [n, 3073]. Raises UserError when it is missing, empty or truncated."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path} is missing: put it there, or remove its folder to download the archive") from error
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise UserError(f"{path} is not in CIFAR-10's binary layout: {len(content)} bytes, not whole records of 3073")
    return content.reshape(-1, RECORD_BYTES)


def images(records: np.ndarray) -> torch.Tensor:
    return torch.tensor(records[:, 1:].reshape(-1, 3, 32, 32), dtype=torch.float32) / 255


def labels(records: np.ndarray) -> torch.Tensor:
    return torch.tensor(records[:, 0], dtype=torch.int64)


def model() -> nn.Module:
    """Three 3 x 3 convolutions (16, 32, 64 filters), each with ReLU and max-pool 2, then one linear layer:
    33,834 parameters."""
    layers = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 10))


LECTURE = Published(
    source="lecture",
    values={
        "train_score": {1: 0.580, 10: 0.560, 100: 0.438, 1000: 0.434, 10000: 0.399, 50000: 0.298},
        "test_score": {1: 0.611, 10: 0.551, 100: 0.458, 1000: 0.427, 10000: 0.439, 50000: 0.334},
    },
)
"""Read off the lecture's figure to about one pixel; the lecture states neither the model nor the learning rate."""

MCCANDLISH = PublishedNoise("McCandlish 2018", noise_scale=(400, 2000), critical_batch_size=(300, 900))
"""From "An Empirical Model of Large-Batch Training", with the network, learning rates and target of that paper."""

workload = Workload(
    name="cifar10",
    about="50,000 + 10,000 colour images of ten classes, 32 x 32 pixels; a network of three convolutions; "
    "cross-entropy.",
    load=load,
    model=model,
    batch_sizes=(1, 10, 100, 1000, 10000, 50000),
    training_batch_sizes=(10, 100, 1000, 10000),
    small=10,
    large=10000,
    learning_rate=0.1,
    learning_rates=(0.1,),
    epochs=2,
    target_loss=1.8,
    max_updates=10_000,
    claims=("update_sequential", "update_parallel", "epoch_time", "gradient"),
    published=LECTURE,
    published_noise=MCCANDLISH,
)
