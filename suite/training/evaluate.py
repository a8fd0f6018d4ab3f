"""The evaluation of a model on a whole split."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from suite import devices
from suite.workloads import Workload

CHUNK_VALUES = 2**20
"""Values of the largest tensor of one forward pass, few enough for the activations to stay in the cache. With 2^22
values a CPU evaluates a convolutional network on CIFAR-10 1.9 times slower, and MNIST's network 1.15 times faster."""

_values: dict[tuple, int] = {}
"""`values_of_an_example` by workload, shape and dtype."""


def chunks(inputs: Tensor, targets: Tensor, values: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Split `inputs` [N, ...] and `targets` [N, ...] into parts of at most `CHUNK_VALUES` input values; `values` is
    the number of values of an example in a larger tensor."""
    size = max(1, CHUNK_VALUES // max(1, values, math.prod(inputs.shape[1:])))
    return zip(inputs.split(size), targets.split(size), strict=True)


def values_of_an_example(workload: Workload, inputs: Tensor) -> int:
    """The number of values in the largest tensor that one of `inputs` [N, ...] takes through the model: the example
    itself, or what a module returns. Computed once for each shape."""
    key = (workload, inputs.shape[1:], inputs.dtype)
    if key not in _values:
        _values[key] = _largest_tensor(workload.initial_model(0).to(inputs.device), inputs[:1])
    return _values[key]


@torch.no_grad()
def _largest_tensor(model: nn.Module, example: Tensor) -> int:
    counts = [example.numel()]

    def count(module: nn.Module, arguments: tuple, outputs: object) -> None:
        counts.extend(leaf.numel() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))

    for module in model.modules():
        module.register_forward_hook(count)
    model.eval()(example)
    return max(counts)


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
