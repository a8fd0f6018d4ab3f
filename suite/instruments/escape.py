"""The mean time that noise takes to carry a particle over a barrier."""

from collections.abc import Callable

import numpy as np
import scipy


def mean_escape_time(loss: Callable[[np.ndarray], np.ndarray], noise: float, start: float, end: float) -> float:
    """Mean time from `start` until dx = −V'(x) dt + √(2 D) dW first reaches `end`, to the right of `start`.

    (1/D) ∫_start^end e^(V(x)/D) ∫_−∞^x e^(−V(y)/D) dy dx, with V the `loss` and D the `noise` (Gardiner, Handbook of
    Stochastic Methods, section 5.2.7). SGD at a small learning rate η, with gradients of variance σ² / B, follows
    this equation with D = η σ² / (2 B), and takes a time of η per update.

    >>> round(mean_escape_time(lambda x: x**4 / 4 - x**2 / 2, noise=0.1, start=-1, end=1), 1)
    66.3
    """
    x = np.linspace(start - 6, end, 60_001)
    height = (loss(x) - loss(x)[x >= start].min()) / noise
    inner = scipy.integrate.cumulative_trapezoid(np.exp(-height), x, initial=0)
    outer = x >= start
    return float(scipy.integrate.trapezoid(np.exp(height[outer]) * inner[outer], x[outer]) / noise)
