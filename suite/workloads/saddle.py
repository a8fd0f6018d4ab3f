"""A saddle: the loss (1 - w1 w2)^2 near w1 = w2 = 0, where the gradient vanishes although no minimum is near."""

import torch
from torch import Tensor, nn

from suite.workloads.data import Data
from suite.workloads.workload import Workload

EXAMPLES, SLOPE, INITIAL_SCALE = 64, 0.5, 1e-6


def load() -> Data:
    """Inputs float32 [64, 1]: the slopes 0.5 and -0.5 that examples alternately add to the loss; they sum to zero.
    Targets float32 [64], all 0. The test examples are the training examples."""
    inputs = torch.tensor([SLOPE, -SLOPE]).repeat(EXAMPLES // 2)[:, None]
    targets = torch.zeros(EXAMPLES)
    return Data(inputs, targets, inputs, targets)


class Saddle(nn.Module):
    """(1 - w1 w2)^2 + a (w1 + w2) for an example of slope a: curvature -2 along the diagonal, 2 across it.

    The initial distance to the saddle is about INITIAL_SCALE: no closer is resolved in single precision.
    """

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(INITIAL_SCALE * torch.randn(2))

    def forward(self, inputs: Tensor) -> Tensor:
        return (1 - self.weights.prod()).square() + inputs[:, 0] * self.weights.sum()


def output_as_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each example, which is the output of the model: [B] and [B] to [B]."""
    return outputs


def minus_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Minus the loss of each example: [B] and [B] to [B]."""
    return -outputs


workload = Workload(
    name="saddle",
    about="A toy: two parameters that start beside the saddle of (1 - w1 w2)^2; 64 examples that pull either way.",
    load=load,
    model=Saddle,
    loss=output_as_loss,
    score=minus_loss,
    score_name="minus loss",
    batch_sizes=(1, 2, 4, 8, 16, 32, 64),
    small=1,
    large=64,
    learning_rate=0.01,
    learning_rates=(0.003, 0.01, 0.03, 0.1),
    epochs=20,
    target_loss=0.1,
    max_updates=5_000,
)
