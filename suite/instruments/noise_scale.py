"""The gradient noise scale along a training, and the number of updates that it predicts for every batch size.

At batch size B an update is worth 1 / (1 + b / B) of one without noise, with b = tr(Σ) / |G|² at the parameters where
it is made: the share of the true gradient in the mean square of a batch gradient, |G|² / (|G|² + tr(Σ) / B). Summed
over the updates of a training at B, these shares are the updates that it would take without noise, S_min; the sum of
b / (1 + b / B) is the number of examples that it would take as the batch size goes to zero, E_min; and
b_eff = E_min / S_min is the noise scale with which S(B) = S_min (1 + b_eff / B) predicts the updates of every batch
size (McCandlish et al. 2018, equations 2.7 and 2.11, appendix D). A plain mean over the updates is dominated by the
last of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effective:
    """The least number of updates and of examples of a training.

    >>> Effective(least_updates=100.0, least_examples=800.0).updates(batch_size=8)
    200.0
    """

    least_updates: float
    """S_min: updates that the same training would take without noise."""
    least_examples: float
    """E_min: examples that it would take as the batch size goes to zero."""

    @property
    def noise_scale(self) -> float:
        """b_eff, in examples."""
        return self.least_examples / self.least_updates

    def updates(self, batch_size: float) -> float:
        """S(B), predicted for any batch size at its best learning rate."""
        return self.least_updates * (1 + self.noise_scale / batch_size)


def effective(updates: Sequence[int], noise_scales: Sequence[float], batch_size: int, until: float) -> Effective:
    """Compute S_min and E_min from the `noise_scales` b [n] at the evaluations after `updates` [n], the first being
    0, of a training with `batch_size` that reached its target after `until` updates, at most those of the last
    evaluation.

    Between two evaluations an update's share 1 / (1 + b / B) is interpolated linearly in log(1 + updates). The last
    fraction of an update in `until` counts in proportion.

    >>> effective([0, 10], [8.0, 8.0], batch_size=8, until=10)
    Effective(least_updates=5.0, least_examples=40.0)
    """
    shares = 1 / (1 + np.asarray(noise_scales, float) / batch_size)
    numbers, weights = _updates_until(until)
    least_updates = float(weights @ _interpolated(updates, shares, numbers))
    return Effective(least_updates, batch_size * (until - least_updates))  # b / (1 + b / B) = B (1 − share)


def plain_mean(updates: Sequence[int], noise_scales: Sequence[float], until: float) -> float:
    """Mean noise scale over the updates up to `until`, all with the same weight; interpolated as in `effective`.

    >>> plain_mean([0, 10], [8.0, 8.0], until=10)
    8.0
    """
    numbers, weights = _updates_until(until)
    return float(weights @ _interpolated(updates, noise_scales, numbers) / until)


def _updates_until(until: float) -> tuple[np.ndarray, np.ndarray]:
    """The number of updates before each of the first `until`, and the weight of each: 1, or the last fraction."""
    numbers = np.arange(math.ceil(until))
    return numbers, np.minimum(1, until - numbers)


def _interpolated(updates: Sequence[int], values: Sequence[float], numbers: np.ndarray) -> np.ndarray:
    return np.interp(np.log1p(numbers), np.log1p(updates), values)
