"""Examples in parts that go through a model at once, small enough for memory and cache."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from suite.workloads.workload import Workload

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

    for module in hookable_modules(model):
        module.register_forward_hook(count)
    count(model, (), model.eval()(example))
    return max(counts)


def hookable_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of `model` that take forward hooks: those of TorchScript do not."""
    return [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
