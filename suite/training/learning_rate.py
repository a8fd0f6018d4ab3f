"""Learning-rate rules: how the rate of an update follows the batch size.

Each starts from one rate, the workload's, and says what an update of a batch size gets after so many updates before
it, and whether that differs from the one before (`moves`). Scaling rules take that rate for right at one batch
size, `reference`.
"""

import math
from dataclasses import dataclass


def listed(epochs: tuple[int, ...]) -> str:
    """For example `3, 6 and 8`."""
    *before, last = map(str, epochs)
    return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True)
class Fixed:
    """The same for every batch size, as in the lecture."""

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return False

    def describe(self, learning_rate: float) -> str:
        return f"fixed rate {learning_rate:g}"


@dataclass(frozen=True)
class SquareRoot:
    """Like the root of the batch size, which keeps the noise of an update as it is (Krizhevsky 2014; Hoffer 2017)."""

    reference: int

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * math.sqrt(batch_size / self.reference)

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return False

    def describe(self, learning_rate: float) -> str:
        return f"square-root rate, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class LinearWarmUp:
    """Like the batch size, reached in equal steps from the unscaled rate over the first `epochs` (Goyal 2017: 5 of
    90). Below `reference` the rate is lower from the start."""

    reference: int
    epochs: float

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        scaled = learning_rate * batch_size / self.reference
        warm_up = self.warm_up_updates(updates_per_epoch)
        if batch_size <= self.reference or updates >= warm_up:
            return scaled
        return learning_rate + (scaled - learning_rate) * updates / warm_up

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return 0 < updates <= self.warm_up_updates(updates_per_epoch)

    def warm_up_updates(self, updates_per_epoch: int) -> int:
        return round(self.epochs * updates_per_epoch)

    def describe(self, learning_rate: float) -> str:
        return f"linear rate with warm-up, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class Decayed:
    """Divided by `factor` after each of so many epochs, whatever the batch size."""

    factor: int
    after: tuple[int, ...]

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate / self.factor ** sum(updates >= epochs * updates_per_epoch for epochs in self.after)

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return updates in (epochs * updates_per_epoch for epochs in self.after)

    def describe(self, learning_rate: float) -> str:
        return f"rate {learning_rate:g}, divided by {self.factor} after {listed(self.after)} epochs"


@dataclass(frozen=True)
class Tuned:
    """The best of a grid, found for each batch size by itself: `suite.training.tuning`."""

    factor: float = 2.0
    """Between neighbours of the grid."""
    each_way: int = 4
    """How many rates it has below the workload's, and how many above."""
    growths: int = 2
    """How often it grows, by `each_way` more rates, where the best lies on its edge."""
    seeds: int = 3
    """Replicas that each rate is tried with, none of which is trained in the end."""

    def describe(self, learning_rate: float) -> str:
        return "tuned rate"


FIXED = Fixed()
RateRule = Fixed | SquareRoot | LinearWarmUp | Decayed | Tuned
