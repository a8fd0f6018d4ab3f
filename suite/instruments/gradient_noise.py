"""The noise of a batch gradient: its distance from the gradient over the whole training set.

With g_i the gradient of example i and G their mean over the N training examples, a batch of B examples drawn without
replacement has the gradient g_B with

    E|g_B − G|² = (S² / B) (1 − B / N),    S² = Σ_i |g_i − G|² / (N − 1),

zero at B = N (sampling without replacement; Cochran, Sampling Techniques, 1977, theorem 2.2). The relative noise is
the root mean square of |g_B − G|, divided by |G|.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from suite import devices
from suite.backends import PerExampleLoss
from suite.statistics import Interval, ratio_interval
from suite.workloads.chunks import chunks


def batch_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean loss over `inputs` [B, ...], with respect to all trained parameters in one vector [P].

    >>> from suite.workloads.workload import cross_entropy
    >>> inputs, targets = torch.eye(2), torch.tensor([0, 1])
    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> batch_gradient(model, cross_entropy, inputs, targets)
    tensor([-0.2500,  0.2500,  0.2500, -0.2500])
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.zeros_like(nn.utils.parameters_to_vector(parameters))
    wide = devices.of(inputs).widest_float
    for chunk_inputs, chunk_targets in chunks(inputs, targets):
        mean = loss(model(chunk_inputs), chunk_targets).to(wide).sum() / len(inputs)
        gradients = torch.autograd.grad(mean, parameters, materialize_grads=True)
        total += nn.utils.parameters_to_vector(gradients)
    return total


def sampled_noise(
    model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor, batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Root mean square of |g_B − G| over `batches`, each inputs [B, ...] and targets [B, ...], with G the gradient
    over all N examples."""
    mean = batch_gradient(model, loss, inputs, targets)
    distances = (batch_gradient(model, loss, *batch) - mean for batch in batches)
    squares = [distance.to(devices.of(mean).widest_float).square().sum().item() for distance in distances]
    return math.sqrt(sum(squares) / len(squares))


def theoretical_noise(variance: float, batch_size: int, examples: int) -> float:
    """Root of E|g_B − G|² = (S² / B) (1 − B / N), with `variance` S² and `examples` N.

    >>> theoretical_noise(variance=8.0, batch_size=1, examples=2)
    2.0
    >>> theoretical_noise(variance=8.0, batch_size=100, examples=100)
    0.0
    """
    return math.sqrt(variance / batch_size * (1 - batch_size / examples))


def effective_batch_size(batch_size: int, examples: int) -> float:
    """The number of examples that are as noisy, drawn with replacement, as a batch of `batch_size` drawn without:
    B (N − 1) / (N − B), with `examples` N. The noise is proportional to its power −1/2; infinite for the full batch.

    >>> effective_batch_size(1, examples=100), effective_batch_size(50, examples=100)
    (1.0, 99.0)
    """
    return batch_size * (examples - 1) / (examples - batch_size) if batch_size < examples else math.inf


def noise_scale_from_two_batch_sizes(
    small_squares: Sequence[float],
    large_squares: Sequence[float],
    batch_sizes: tuple[int, int],
    examples: int | None = None,
) -> Interval:
    """Estimate tr(Σ) / |G|² from |g_B|² of sampled batches, `small_squares` [n] and `large_squares` [n] of the two
    `batch_sizes`: for where a pass over all gradients is too expensive (McCandlish 2018, appendix A.1).

    `examples` is N where batches are drawn without replacement, None where with replacement. Numerator and
    denominator are both unbiased, and averaged before the division; nothing is clamped: a negative ratio, or an
    interval without bounds, says that there are too few batches.

    >>> noise_scale_from_two_batch_sizes([5.0, 5.0], [1.4, 1.4], batch_sizes=(1, 10)).estimate
    4.0
    """
    small, large = batch_sizes
    small_squares, large_squares = np.asarray(small_squares, float), np.asarray(large_squares, float)
    variances = (small_squares - large_squares) / (1 / small - 1 / large)
    squared_norms = (large * large_squares - small * small_squares) / (large - small)
    return ratio_interval(variances, squared_norms + (variances / examples if examples else 0))
