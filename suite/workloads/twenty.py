"""The lecture's toy: twenty examples and a model of two parameters, so that its loss can be drawn."""

import torch
from torch import Tensor, nn

from suite import seeds
from suite.workloads.data import Data
from suite.workloads.workload import Workload

EXAMPLES = 20


def load() -> Data:
    """A straight line with noise: inputs float32 [20, 1], standard normal; targets float32 [20, 1], 1 + 0.5 x plus a
    normal error of standard deviation 0.5. The test examples are twenty more."""
    generator = seeds.generator("twenty")
    inputs = torch.randn(2 * EXAMPLES, 1, generator=generator)
    targets = 1 + 0.5 * inputs + 0.5 * torch.randn(2 * EXAMPLES, 1, generator=generator)
    return Data(inputs[:EXAMPLES], targets[:EXAMPLES], inputs[EXAMPLES:], targets[EXAMPLES:])


def model() -> nn.Module:
    """One weight and one bias."""
    return nn.Linear(1, 1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of each example: [B, 1] and [B, 1] to [B]."""
    return 0.5 * (outputs - targets).square().sum(dim=1)


def minus_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Minus the absolute error of each example: [B, 1] and [B, 1] to [B]."""
    return -(outputs - targets).abs().sum(dim=1)


workload = Workload(
    name="twenty",
    about="The lecture's toy: 20 made-up examples of a noisy straight line; a weight and a bias; half the squared "
    "error.",
    load=load,
    model=model,
    loss=squared_error,
    score=minus_absolute_error,
    score_name="minus absolute error",
    resplit=True,
    batch_sizes=(1, 2, 5, 10, 20),
    small=1,
    large=10,
    learning_rate=0.1,
    learning_rates=(0.01, 0.03, 0.1, 0.3),
    epochs=5,
    target_loss=0.2,
    fitted_loss=0.2,
    max_updates=2_000,
)
