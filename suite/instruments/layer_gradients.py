"""Sums over every example's gradient of a layer, from the layer's input and the gradient at its output.

With a_i the input of a linear layer and d_i the gradient of example i's loss at its output, the gradient of the
weight is d_i a_iᵀ, with squared norm |d_i|² |a_i|² (Goodfellow 2015). With positions t it is Σ_t d_it a_itᵀ; its
squared norm is computed from that product itself, or from the two Gram matrices over positions, whichever takes fewer
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
"""Values that the windows of a convolution hold at once: they fit into a core's cache."""
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def sums_of(gradients: Tensor) -> Gradient:
    """From the gradients of all examples, [n, ...]."""
    norms = torch.linalg.vector_norm(gradients.reshape(len(gradients), -1), dim=1)
    return sum_of_squares(norms), gradients.sum(dim=0)


def sum_of_squares(norms: Tensor) -> Tensor:
    """Of the norms [n], each squared in the device's widest float."""
    return norms.to(devices.of(norms).widest_float).square().sum()


def outer(a: Tensor, d: Tensor) -> Gradient:
    """Of a matrix [O, I] whose gradient is Σ_t d_t a_tᵀ: a [n, T, I], d [n, T, O]."""
    positions, inputs, outputs = a.shape[1], a.shape[2], d.shape[2]
    if positions == 1:
        norms = torch.linalg.vector_norm(a[:, 0], dim=1) * torch.linalg.vector_norm(d[:, 0], dim=1)
        return sum_of_squares(norms), d[:, 0].T @ a[:, 0]
    if positions * (inputs + outputs) < inputs * outputs:
        gram = (a @ a.mT) * (d @ d.mT)
        return gram.sum(dtype=devices.of(gram).widest_float), d.flatten(0, 1).T @ a.flatten(0, 1)
    return sums_of(d.mT @ a)


def linear(layer: nn.Linear, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """a [n, ..., I], d [n, ..., O]."""
    a, d = a.reshape(len(a), -1, a.shape[-1]), d.reshape(len(d), -1, d.shape[-1])
    return {"weight": outer(a, d), "bias": sums_of(d[:, 0] if d.shape[1] == 1 else d.sum(dim=1))}


def convolution(layer: Convolution, a: Tensor, d: Tensor, window_values: int = WINDOW_VALUES) -> dict[str, Gradient]:
    """a [n, I, ...], d [n, O, ...]: a linear layer at every position, on the inputs in its window; as many examples
    at once as their windows hold `window_values`."""
    d = d.flatten(2)
    values_of_an_example = layer.weight[0].numel() * d.shape[2] * layer.groups
    chunk = max(1, window_values // values_of_an_example)
    norms, total = 0, 0
    for chunk_a, chunk_d in zip(a.split(chunk), d.split(chunk), strict=True):
        chunk_sums = sums_of(chunk_d.unflatten(1, (layer.groups, -1)) @ windows(layer, chunk_a).mT)
        norms, total = norms + chunk_sums[0], total + chunk_sums[1]
    return {"weight": (norms, total.reshape(layer.weight.shape)), "bias": sums_of(d.sum(dim=2))}


def windows(layer: Convolution, a: Tensor) -> Tensor:
    """The inputs in each position's window: a [n, I, ...] to [n, groups, I / groups * window, positions].

    Copied from views, which takes half the time of torch.nn.functional.unfold.
    """
    if layer.padding == "same":
        totals = [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(0, 0)] * len(layer.stride) if layer.padding == "valid" else [(side, side) for side in layer.padding]
    padding = [side for pair in reversed(sides) for side in pair]
    a = F.pad(a, padding, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    axes = len(layer.kernel_size)
    for axis in range(axes):
        extent = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        a = a.unfold(2 + axis, extent, layer.stride[axis])[..., :: layer.dilation[axis]]
    views = a.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
    return views.reshape(len(a), layer.groups, -1, math.prod(a.shape[2 : 2 + axes]))


def embedding(layer: nn.Embedding, a: Tensor, d: Tensor) -> dict[str, Gradient]:
    """a [n, ...] of indices, d [n, ..., E]: the positions of one example that look up the same row add up."""
    a, d = a.reshape(len(a), -1), d.reshape(len(d), -1, d.shape[-1])
    if layer.padding_idx is not None:
        d = d * (a != layer.padding_idx)[..., None]
    same_row = (d @ d.mT) * (a[:, :, None] == a[:, None, :])
    total = torch.zeros_like(layer.weight).index_add_(0, a.flatten(), d.flatten(0, 1))
    return {"weight": (same_row.sum(dtype=devices.of(same_row).widest_float), total)}


def affine(normalised: Tensor, d: Tensor, dimensions: tuple[int, ...]) -> dict[str, Gradient]:
    """The scale and the shift that follow a normalisation; both [n, ...], summed over `dimensions`."""

    def summed(values: Tensor) -> Tensor:
        return values.sum(dim=dimensions) if dimensions else values

    return {"weight": sums_of(summed(normalised * d)), "bias": sums_of(summed(d))}


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


def layer_gradients(
    layer: nn.Module, a: Tensor, d: Tensor, window_values: int = WINDOW_VALUES
) -> dict[str, Gradient]:
    """The sums of the parameters of a `layer` that has a formula, by their names in the layer, from its input `a` and
    the gradient `d` at its output, both [n, ...]."""
    formula = FORMULAS[type(layer)]
    return formula(layer, a, d, window_values) if formula is convolution else formula(layer, a, d)


def direct_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters of the layer itself, without those of layers inside it."""
    return {name: value for name, value in layer.named_parameters(recurse=False) if value.requires_grad}
