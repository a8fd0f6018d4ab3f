"""MNIST, the data of the lecture: 60,000 + 10,000 images of handwritten digits (LeCun, Cortes, Burges)."""

import numpy as np
import torch
from torch import Tensor, nn

from suite.workloads.data import Data
from suite.workloads.data_home import gzip_content
from suite.workloads.workload import Published, PublishedNoise, Workload

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load() -> Data:
    """Inputs float32 [N, 784], grey values divided by 255 into [0, 1]; targets int64 [N], classes 0 to 9."""
    return Data(images("train"), labels("train"), images("t10k"), labels("t10k"))


def images(split: str) -> Tensor:
    content = idx(f"{split}-images-idx3-ubyte")
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 784)
    return torch.tensor(pixels, dtype=torch.float32) / 255


def labels(split: str) -> Tensor:
    content = idx(f"{split}-labels-idx1-ubyte")
    return torch.tensor(np.frombuffer(content, np.uint8, offset=8), dtype=torch.int64)


def idx(name: str) -> bytes:
    """Content of one of the four IDX files."""
    return gzip_content("mnist", f"{name}.gz", f"{URL}{name}.gz", SHA256[name])


def model() -> nn.Module:
    """784 - 128 - 10 with one ReLU: 101,770 parameters."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


LECTURE = Published(
    source="lecture (V100)",
    values={
        "update_time": {1: 0.005, 10: 0.005, 100: 0.024, 1000: 0.150, 10000: 1.54, 60000: 9.47},
        "epoch_time": {1: 364, 10: 43.5, 100: 14.4, 1000: 8.97, 10000: 8.97, 60000: 8.97},
        "train_score": {1: 0.982, 10: 0.990, 100: 0.992, 1000: 0.986, 10000: 0.955, 60000: 0.838},
        "test_score": {1: 0.9915, 10: 0.9933, 100: 0.9924, 1000: 0.990, 10000: 0.970, 60000: 0.871},
    },
)
"""Read off the lecture's figures to about one pixel, on a Tesla V100; the lecture states neither the model nor the
learning rate."""

MCCANDLISH = PublishedNoise("McCandlish 2018", noise_scale=(50, 900), critical_batch_size=(20, 200))
"""From "An Empirical Model of Large-Batch Training", with the network, learning rates and target of that paper."""

workload = Workload(
    name="mnist",
    about="60,000 + 10,000 images of handwritten digits, 28 x 28 pixels; a ReLU network 784-128-10; cross-entropy.",
    load=load,
    model=model,
    batch_sizes=(1, 10, 100, 1000, 10000, 60000),
    small=10,
    large=1000,
    learning_rate=0.1,
    learning_rates=(0.03, 0.1, 0.3),
    epochs=5,
    target_loss=0.2,
    fitted_loss=0.0175,
    max_updates=100_000,
    published=LECTURE,
    published_noise=MCCANDLISH,
)
