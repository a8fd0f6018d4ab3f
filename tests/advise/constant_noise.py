"""A loss whose noise scale is the same everywhere, so that the updates to a target are known in closed form.

f_i(x) = |x|^2 / 2 + x A_i x / 2 with symmetric random A_i that add up to zero and E|A_i x|^2 = B_noise |x|^2. From
batches drawn with replacement, at rate 1 / (1 + B_noise / B), the loss falls by the factor 1 / (1 + B / B_noise) an
update in its mean.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from suite.advise.measured import Timing, Trained
from suite.instruments.noise_scale import effective
from suite.statistics import value_at_crossing

DIMENSIONS, EXAMPLES, REPLICAS = 64, 512, 4
FALL, SEEN = 100, 5
"""How many times less than at the start the target is; every how many updates the noise scale is looked at."""


def matrices(noise_scale: float) -> torch.Tensor:
    """[N, d, d]."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(EXAMPLES, DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64)
    drawn = drawn + drawn.mT
    drawn -= drawn.mean(dim=0)
    square = drawn.square().sum() / (EXAMPLES * DIMENSIONS)  # mean of |A_i x|^2 over all x of length one
    return drawn * (noise_scale / square).sqrt()


def updates_to_target(batch_size: np.ndarray, noise_scale: float) -> np.ndarray:
    return math.log(FALL) / np.log1p(np.asarray(batch_size, float) / noise_scale)


class ConstantNoise:
    """A `Trainer` whose updates take a + b B seconds by themselves, and `longer(B)` times as long in a training."""

    as_timed = True

    def __init__(self, noise_scale: float, a: float, b: float, longer: Callable[[int], float] = lambda size: 1.0):
        self.noise_scale, self.a, self.b, self.longer, self.seed = noise_scale, a, b, longer, 0
        self.matrices = matrices(noise_scale)

    def timings(self) -> list[Timing]:
        return [Timing(2**power, (self.a + self.b * 2**power,) * 3, peak_bytes=2**power) for power in range(13)]

    def noise_scale_at_start(self) -> float:
        x = torch.ones(DIMENSIONS, dtype=torch.float64)
        return float(self._scale(x))

    def anchored(self, batch_size: int) -> Trained:
        return self._all(batch_size)

    def trained(self, batch_size: int, learning_rate: float, expected_updates: float, fresh: bool = True) -> Trained:
        return self._all(batch_size)

    def at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> Trained:
        return self._all(batch_size)

    def refined(self, trained: Trained) -> Trained:
        return trained

    def update_seconds(self, trained: list[Trained]) -> list[float]:
        return [(self.a + self.b * one.batch_size) * self.longer(one.batch_size) for one in trained]

    def _scale(self, x: torch.Tensor) -> torch.Tensor:
        return (self.matrices @ x).square().sum() / (EXAMPLES - 1) / x.square().sum()

    def _all(self, batch_size: int) -> Trained:
        rate = 1 / (1 + self.noise_scale / batch_size)
        found = [self._one(batch_size, rate) for _ in range(REPLICAS)]
        updates, along = zip(*found, strict=True)
        return Trained(batch_size, rate, updates, along, rates=(rate,))

    def _one(self, batch_size: int, rate: float):
        self.seed += 1
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
        losses, scales = [float(x.square().sum())], [float(self._scale(x))]
        while losses[-1] > losses[0] / FALL:
            drawn = torch.randint(EXAMPLES, (batch_size,), generator=generator)
            counts = torch.bincount(drawn, minlength=EXAMPLES).to(x)
            x = x - rate * (x + torch.einsum("n,nij,j->i", counts, self.matrices, x) / batch_size)
            losses.append(float(x.square().sum()))
            if (len(losses) - 1) % SEEN == 0:
                scales.append(float(self._scale(x)))
        looks = list(range(len(losses)))
        until = value_at_crossing(losses, looks, losses[0] / FALL)
        return until, effective(looks[::SEEN], scales, batch_size, until)
