"""The running average of a model's parameters, which takes the noise of the last updates out of a training."""

from collections.abc import Sequence

import torch
from torch import Tensor

POWER = 3
"""The parameters after update t have a weight that grows like t to this power: the last half of the updates has 94%
of the weight, at every batch size. A higher power follows the parameters more closely but leaves more of their noise:
with 8, updates to a target depend twice as much on when the loss is evaluated."""


class RunningAverage:
    """Averages of `tensors` over the updates so far, with weights that grow like t^POWER (polynomial-decay
    averaging: Shamir, Zhang 2013, "Stochastic gradient descent for non-smooth optimization", section 4).

    `tensors` change in place from update to update, and so do `averages`, of the same shapes and in the same order.
    Tensors of whole numbers are copied.
    """

    def __init__(self, tensors: Sequence[Tensor], averages: Sequence[Tensor]):
        self.tensors, self.averages, self.updates = list(tensors), list(averages), 0

    @torch.no_grad()
    def update(self) -> None:
        """Take up the tensors after one more update."""
        self.updates += 1
        weight = (POWER + 1) / (self.updates + POWER)
        for average, tensor in zip(self.averages, self.tensors, strict=True):
            if average.is_floating_point():
                average.lerp_(tensor, weight)
            else:
                average.copy_(tensor)
