"""How good a model is on a whole split."""

import torch
from torch import Tensor, nn

from suite.workloads import Workload


@torch.no_grad()
def evaluate(workload: Workload, model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Mean loss and mean score over all of `inputs` [N, ...], in evaluation mode."""
    was_training = model.training
    model.eval()
    outputs = model(inputs)
    loss = workload.loss(outputs, targets).mean().item()
    score = workload.score(outputs, targets).mean().item()
    model.train(was_training)
    return loss, score
