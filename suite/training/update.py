"""The update, one optimizer step: the gradient of a batch, then a step of the parameters against it."""

import torch
from torch import Tensor, nn

from suite.backends import Backend, PerExampleLoss


def update(
    backend: Backend,
    model: nn.Module,
    loss: PerExampleLoss,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> None:
    """Make one optimizer step with the gradient of the mean loss over the batch `inputs` [B, ...].

    For SGD: theta <- theta - eta * g.
    """
    optimizer.zero_grad()
    backend.gradient(model, loss, inputs, targets)
    optimizer.step()
