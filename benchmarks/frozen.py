"""The yardstick of `benchmarks.ratios`: a network's gradient and its plain update, written out with torch alone.

Frozen: it imports nothing of the suite and is never made faster, so that a ratio to it means the same in every
commit. A change of it needs a new version of every ratio to it.
"""

import torch
from torch import Tensor
from torch.nn import functional

VALUES, HIDDEN, CLASSES = 64, 64, 10
EXAMPLES = 1437


def examples() -> tuple[Tensor, Tensor]:
    """Random inputs float32 [1437, 64] in [0, 1] and targets int64 [1437], in the shapes of digits."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(EXAMPLES, VALUES, generator=generator), torch.randint(CLASSES, (EXAMPLES,), generator=generator)


class FrozenNetwork:
    """64 - 64 - 10 with one ReLU, trained by SGD without momentum on the mean cross-entropy of a batch."""

    def __init__(self, learning_rate: float = 0.01):
        generator = torch.Generator().manual_seed(1)
        shapes = [(HIDDEN, VALUES), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
        self.parameters = [0.1 * torch.randn(shape, generator=generator) for shape in shapes]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.learning_rate = learning_rate

    def gradient(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """The gradient of the mean loss over `inputs` [B, 64] and `targets` [B], in the shapes of the parameters."""
        first, first_bias, second, second_bias = self.parameters
        hidden = functional.relu(functional.linear(inputs, first, first_bias))
        loss = functional.cross_entropy(functional.linear(hidden, second, second_bias), targets)
        return torch.autograd.grad(loss, self.parameters)

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        gradients = self.gradient(inputs, targets)
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=self.learning_rate)
