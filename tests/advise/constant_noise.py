"""A loss whose noise scale is the same everywhere, so that the updates to a target are known in closed form.

f_i(x) = |x|^2 / 2 + x A_i x / 2 with symmetric random A_i that add up to zero and E|A_i x|^2 = B_noise |x|^2. From
batches drawn with replacement, at rate 1 / (1 + B_noise / B), the loss falls by the factor 1 / (1 + B / B_noise) an
update in its mean. The noise vanishes with the loss, so that an average of the last updates would take none out: the
updates are those of the last iterate.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from suite.advise.measurements import Timing, TrainingRun
from suite.instruments.noise_scale import Effective, effective
from suite.statistics import value_at_crossing

DIMENSIONS, EXAMPLES, REPLICAS = 64, 512, 4
FALL, NOISE_INTERVAL = 100, 5
"""The loss at the start over the target; the updates from one measurement of the noise scale to the next."""


def matrices(noise_scale: float) -> torch.Tensor:
    """The A_i, [N, d, d]."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(EXAMPLES, DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64)
    drawn = drawn + drawn.mT
    drawn -= drawn.mean(dim=0)
    square = drawn.square().sum() / (EXAMPLES * DIMENSIONS)  # mean of |A_i x|^2 over all x of length one
    return drawn * (noise_scale / square).sqrt()


def updates_to_target(batch_size: np.ndarray, noise_scale: float) -> np.ndarray:
    return math.log(FALL) / np.log1p(np.asarray(batch_size, float) / noise_scale)


class ConstantNoise:
    """A `Trainer` whose updates take a + b B seconds alone, and `overhead(B)` times as long in a training."""

    trains_as_timed = True

    def __init__(self, noise_scale: float, a: float, b: float, overhead: Callable[[int], float] = lambda size: 1.0):
        self.noise_scale, self.a, self.b, self.overhead, self.seed = noise_scale, a, b, overhead, 0
        self.matrices = matrices(noise_scale)

    def timings(self) -> list[Timing]:
        return [Timing(2**power, (self.a + self.b * 2**power,) * 3, peak_bytes=2**power) for power in range(13)]

    def initial_noise_scale(self) -> float:
        x = torch.ones(DIMENSIONS, dtype=torch.float64)
        return float(self._scale(x))

    def pilot_run(self, batch_size: int) -> TrainingRun:
        return self._run(batch_size)

    def tuned_run(
        self, batch_size: int, learning_rate: float, expected_updates: float, held_out: bool = True
    ) -> TrainingRun:
        return self._run(batch_size)

    def run_at_rate(self, batch_size: int, learning_rate: float, expected_updates: float) -> TrainingRun:
        return self._run(batch_size)

    def refined_run(self, run: TrainingRun) -> TrainingRun:
        return run

    def update_seconds(self, runs: list[TrainingRun]) -> list[float]:
        return [(self.a + self.b * run.batch_size) * self.overhead(run.batch_size) for run in runs]

    def _scale(self, x: torch.Tensor) -> torch.Tensor:
        return (self.matrices @ x).square().sum() / (EXAMPLES - 1) / x.square().sum()

    def _run(self, batch_size: int) -> TrainingRun:
        rate = 1 / (1 + self.noise_scale / batch_size)
        replicas = [self._train_replica(batch_size, rate) for _ in range(REPLICAS)]
        updates, noise = zip(*replicas, strict=True)
        return TrainingRun(batch_size, rate, updates, noise, learning_rates=(rate,))

    def _train_replica(self, batch_size: int, rate: float) -> tuple[float, Effective]:
        self.seed += 1
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
        losses, scales = [float(x.square().sum())], [float(self._scale(x))]
        while losses[-1] > losses[0] / FALL:
            drawn = torch.randint(EXAMPLES, (batch_size,), generator=generator)
            counts = torch.bincount(drawn, minlength=EXAMPLES).to(x)
            x = x - rate * (x + torch.einsum("n,nij,j->i", counts, self.matrices, x) / batch_size)
            losses.append(float(x.square().sum()))
            if (len(losses) - 1) % NOISE_INTERVAL == 0:
                scales.append(float(self._scale(x)))
        updates = list(range(len(losses)))
        until = value_at_crossing(losses, updates, losses[0] / FALL)
        return until, effective(updates[::NOISE_INTERVAL], scales, batch_size, until)
