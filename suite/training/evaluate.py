"""The evaluation of a model on a whole split."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from suite.workloads import Workload

CHUNK_VALUES = 2**20
"""Input values of one forward pass, few enough for the activations to stay in the cache. With 2^22 values a CPU
evaluates a convolutional network on CIFAR-10 1.9 times slower, and MNIST's network 1.15 times faster."""


def chunks(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split `inputs` [N, ...] and `targets` [N, ...] into parts of at most `CHUNK_VALUES` input values."""
    size = max(1, CHUNK_VALUES // math.prod(inputs.shape[1:]))
    return zip(inputs.split(size), targets.split(size), strict=True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode. Its previous mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def evaluate(workload: Workload, model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Mean loss and mean score over all of `inputs` [N, ...], in evaluation mode."""
    loss = score = 0.0
    for loss_sum, score_sum in chunk_sums(workload, model, inputs, targets):
        loss += loss_sum.item()
        score += score_sum.item()
    return loss / len(inputs), score / len(inputs)


@torch.no_grad()
def chunk_sums(workload: Workload, model: nn.Module, inputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Sums [] of the losses and of the scores of each chunk of `inputs` [N, ...], in evaluation mode."""
    sums = []
    with evaluating(model):
        for chunk_inputs, chunk_targets in chunks(inputs, targets):
            outputs = model(chunk_inputs)
            sums.append((workload.loss(outputs, chunk_targets).sum(), workload.score(outputs, chunk_targets).sum()))
    return sums
