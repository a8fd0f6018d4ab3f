"""Momentum taken apart: the gradients that make up a movement, and the convergence of heavy ball.

The lecture's rule m_i = λ m_(i−1) − η g_(i−1) makes each movement the weighted sum of all past gradients,
m_i = −η Σ_(j<i) λ^(i−1−j) g_j. Adam's movement is an average with the same weights, divided coordinate by coordinate
by the root mean square gradient.
"""

import cmath

import pandas as pd
import torch
from torch import Tensor


def weighted_sums(gradients: Tensor, learning_rate: float, momentum: float) -> Tensor:
    """−η Σ_(j<i) λ^(i−1−j) g_j for i = 1 ... k, [k, P], from the gradients g_0 ... g_(k−1) [k, P]: by the sum itself,
    not by the recursion.

    >>> gradients = torch.ones(3, 1, dtype=torch.float64)
    >>> weighted_sums(gradients, learning_rate=1.0, momentum=0.5).flatten().tolist()
    [-1.0, -1.5, -1.75]
    """
    numbers = torch.arange(len(gradients))
    ages = numbers[:, None] - numbers
    weights = torch.where(ages >= 0, torch.tensor(momentum, dtype=torch.float64) ** ages.clamp(min=0), 0.0)
    return -learning_rate * weights @ gradients


def fitted_weights(movements: Tensor, gradients: Tensor, learning_rate: float) -> pd.DataFrame:
    """The weights over all past gradients (divided by −η) that reproduce each movement [k, P] best, by least squares:
    columns `updates`, `gradient` (the number of the update that it belongs to) and `weight`."""
    rows = []
    for i, movement in enumerate(movements, start=1):
        fit = torch.linalg.lstsq(gradients[:i].T, movement[:, None], driver="gelsd").solution[:, 0] / -learning_rate
        rows += [(i, gradient, weight) for gradient, weight in enumerate(fit.tolist(), start=1)]
    return pd.DataFrame(rows, columns=["updates", "gradient", "weight"])


def growth(learning_rate: float, momentum: float, curvature: float) -> float:
    """The factor by which an update of heavy ball multiplies a coordinate, asymptotically: the larger root of
    r² − (1 + λ − η h) r + λ = 0 in absolute value, with h the `curvature` (Goh 2017). Below 1 heavy ball is stable.

    >>> growth(learning_rate=0.5, momentum=0.0, curvature=1.0)
    0.5
    >>> growth(learning_rate=0.25, momentum=0.25, curvature=1.0)
    0.5
    """
    total = 1 + momentum - learning_rate * curvature
    root = cmath.sqrt(total**2 - 4 * momentum)
    return max(abs(total + root), abs(total - root)) / 2
