"""What a layer's input and the gradient at its output say about every example's gradient, without autograd.

With a_i the input of a linear layer and d_i the gradient of example i's loss at its output, the gradient of the
weight is d_i a_i^T, with squared norm |d_i|^2 |a_i|^2 (Goodfellow 2015). With positions t it is sum_t d_it a_it^T;
its squared norm comes from that product itself, or from the two Gram matrices over positions, whichever takes fewer
operations.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite import devices

Gradient = tuple[Tensor, Tensor]
"""Of one parameter: the sum of the squared norms of the n examples' gradients, [] in the device's widest float, and
the sum of the gradients, in the parameter's shape."""
WINDOW_VALUES = 2**18
"""Values that the windows of a convolution hold at once: what stays in a core's cache."""


def of_each(gradients: Tensor) -> Gradient:
    """From the gradients of all examples, [n, ...]."""
    norms = torch.linalg.vector_norm(gradients.reshape(len(gradients), -1), dim=1)
    return sum_of_squares(norms), gradients.sum(dim=0)


def sum_of_squares(norms: Tensor) -> Tensor:
    """Of the norms [n], each squared in the device's widest float."""
    return norms.to(devices.of(norms).widest_float).square().sum()


def outer(a: Tensor, d: Tensor) -> Gradient:
    """Of a matrix [O, I] whose gradient is sum_t d_t a_t^T: a [n, T, I], d [n, T, O]."""
    positions, inputs, outputs = a.shape[1], a.shape[2], d.shape[2]
    if positions == 1:
        norms = torch.linalg.vector_norm(a[:, 0], dim=1) * torch.linalg.vector_norm(d[:, 0], dim=1)
        return sum_of_squares(norms), d[:, 0].T @ a[:, 0]
    if positions * (inputs + outputs) < inputs * outputs:
        gram = (a @ a.mT) * (d @ d.mT)
        return gram.sum(dtype=devices.of(gram).widest_float), d.flatten(0, 1).T @ a.flatten(0, 1)
    return of_each(d.mT @ a)


def linear(layer: nn.Linear, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """a [n, ..., I], d [n, ..., O]."""
    a, d = a.reshape(len(a), -1, a.shape[-1]), d.reshape(len(d), -1, d.shape[-1])
    return {"weight": outer(a, d), "bias": of_each(d[:, 0] if d.shape[1] == 1 else d.sum(dim=1))}


def convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """a [n, I, ...], d [n, O, ...]: a linear layer at every position, on the inputs in its window."""
    d = d.flatten(2)
    seen = layer.weight[0].numel() * d.shape[2] * layer.groups
    some = max(1, WINDOW_VALUES // seen)
    norms, total = 0, 0
    for few_a, few_d in zip(a.split(some), d.split(some), strict=True):
        each = of_each(few_d.unflatten(1, (layer.groups, -1)) @ windows(layer, few_a).mT)
        norms, total = norms + each[0], total + each[1]
    return {"weight": (norms, total.reshape(layer.weight.shape)), "bias": of_each(d.sum(dim=2))}


def windows(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: Tensor) -> Tensor:
    """What each position's window sees: a [n, I, ...] to [n, groups, I / groups * window, positions].

    Copied from views, which takes half the time of torch.nn.functional.unfold.
    """
    if layer.padding == "same":
        beyond = [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in beyond]
    else:
        sides = [(0, 0)] * len(layer.stride) if layer.padding == "valid" else [(side, side) for side in layer.padding]
    padding = [side for pair in reversed(sides) for side in pair]
    a = F.pad(a, padding, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    axes = len(layer.kernel_size)
    for axis in range(axes):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        a = a.unfold(2 + axis, reach, layer.stride[axis])[..., :: layer.dilation[axis]]
    seen = a.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
    return seen.reshape(len(a), layer.groups, -1, math.prod(a.shape[2 : 2 + axes]))


def embedding(layer: nn.Embedding, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """a [n, ...] of indices, d [n, ..., E]: the positions of one example that look up the same row add up."""
    a, d = a.reshape(len(a), -1), d.reshape(len(d), -1, d.shape[-1])
    if layer.padding_idx is not None:
        d = d * (a != layer.padding_idx)[..., None]
    same = (d @ d.mT) * (a[:, :, None] == a[:, None, :])
    total = torch.zeros_like(layer.weight).index_add_(0, a.flatten(), d.flatten(0, 1))
    return {"weight": (same.sum(dtype=devices.of(same).widest_float), total)}


def affine(normalised: Tensor, d: Tensor, channels: tuple[int, ...]) -> dict[str, Gradient]:
    """The scale and the shift behind a normalisation; both [n, ...], summed over the dimensions `channels`."""

    def over(values: Tensor) -> Tensor:
        return values.sum(dim=channels) if channels else values

    return {"weight": of_each(over(normalised * d)), "bias": of_each(over(d))}


def layer_norm(layer: nn.LayerNorm, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    normalised = F.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    return affine(normalised, d, tuple(range(1, a.dim() - len(layer.normalized_shape))))


def group_norm(layer: nn.GroupNorm, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    return affine(F.group_norm(a, layer.num_groups, eps=layer.eps), d, tuple(range(2, a.dim())))


def batch_norm(layer: nn.Module, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """In evaluation mode, with fixed statistics: in training mode an example has no gradient of its own."""
    normalised = F.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)
    return affine(normalised, d, tuple(range(2, a.dim())))


FORMULAS: dict[type[nn.Module], Callable[..., dict[str, Gradient]]] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
}


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the layer itself, not of layers inside it, that are trained."""
    return {name: value for name, value in layer.named_parameters(recurse=False) if value.requires_grad}
