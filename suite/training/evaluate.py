"""The evaluation of a model on a whole split."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from suite import devices
from suite.workloads import Workload
from suite.workloads.chunks import chunks, values_of_an_example


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
    """Sums [] of the losses and of the scores of each chunk of `inputs` [N, ...] in evaluation mode, in the widest
    float of the device."""
    sums, wide = [], devices.of(inputs).widest_float
    values = values_of_an_example(workload, inputs)
    with evaluating(model):
        for chunk_inputs, chunk_targets in chunks(inputs, targets, values):
            outputs = model(chunk_inputs)
            losses, scores = workload.loss(outputs, chunk_targets), workload.score(outputs, chunk_targets)
            sums.append((losses.to(wide).sum(), scores.to(wide).sum()))
    return sums
