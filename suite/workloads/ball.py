"""The lecture's ball: a loss over one parameter with a local minimum, a bump after it, and a better minimum."""

import numpy as np
import torch
from torch import Tensor, nn

from suite.workloads.data import Data
from suite.workloads.saddle import minus_loss, output_as_loss
from suite.workloads.workload import Workload

EXAMPLES, SLOPE, TILT, LIFT = 16, 5.0, 0.1, 0.36
LEFT, RIGHT = -2.4, -0.15
"""Bounds of the initial positions: high up the slope, and just before the top of the bump."""


def load() -> Data:
    """Inputs float32 [16, 1]: the slopes 5 and -5 that examples alternately add to the loss; they sum to zero.
    Targets float32 [16], all 0. The test examples are the training examples."""
    inputs = torch.tensor([SLOPE, -SLOPE]).repeat(EXAMPLES // 2)[:, None]
    targets = torch.zeros(EXAMPLES)
    return Data(inputs, targets, inputs, targets)


def loss_at(position: Tensor | np.ndarray, tilt: float = TILT):
    """Mean loss of all examples at each `position` x: x^4 / 4 - x^2 / 2 - tilt x, lifted above zero."""
    return position**4 / 4 - position**2 / 2 - tilt * position + LIFT


def stationary_points(tilt: float = TILT) -> tuple[float, float, float]:
    """Positions of the local minimum, the top of the bump and the better minimum."""
    return tuple(np.sort(np.roots([1, 0, -1, -tilt]).real).tolist())


class Ball(nn.Module):
    """The position of the ball, initially uniform between LEFT and RIGHT."""

    def __init__(self, tilt: float = TILT):
        super().__init__()
        self.position, self.tilt = nn.Parameter(LEFT + (RIGHT - LEFT) * torch.rand(())), tilt

    def forward(self, inputs: Tensor) -> Tensor:
        return loss_at(self.position, self.tilt) + inputs[:, 0] * self.position


workload = Workload(
    name="ball",
    about="The lecture's ball: one parameter between a local minimum and a better one; 16 examples that pull either "
    "way.",
    load=load,
    model=Ball,
    loss=output_as_loss,
    score=minus_loss,
    score_name="minus loss",
    batch_sizes=(1, 2, 4, 8, 16),
    small=1,
    large=16,
    learning_rate=0.02,
    learning_rates=(0.01, 0.02, 0.05, 0.1),
    epochs=50,
    target_loss=0.1,
    max_updates=20_000,
)
