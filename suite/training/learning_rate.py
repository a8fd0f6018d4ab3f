"""Rate rules: how the learning rate, and for Adam other hyperparameters, follow the batch size.

Each starts from one rate, the workload's, and gives the rate of every update of a training with some batch size. A
scaling rule assumes that the workload's rate and hyperparameters are right at one batch size, `reference`.
"""

import math
from dataclasses import dataclass

from suite.optimizer_forms import Hyperparameters
from suite.optimizers import Optimizer

LEAST_BETA2 = 0.9
"""A rule never lowers beta2 below this, or below the optimizer's own where that is less."""


def listed(epochs: tuple[int, ...]) -> str:
    """For example `3, 6 and 8`."""
    *before, last = map(str, epochs)
    return f"{', '.join(before)} and {last}" if before else last


class RateRule:
    """What rules share: a constant rate, and hyperparameters that do not follow the batch size."""

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        """The rate of an update from a batch of `batch_size` that follows `updates` others."""
        return learning_rate

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        """Whether the rate of that update differs from that of the one before."""
        return False

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        """`optimizer` with the hyperparameters that `batch_size` gets."""
        return optimizer

    def key_fields(self) -> dict:
        """What determines the rates, in plain values."""
        raise NotImplementedError

    def describe(self, learning_rate: float) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed(RateRule):
    """The same for every batch size, as in the lecture."""

    def key_fields(self) -> dict:
        return {"rule": "fixed"}

    def describe(self, learning_rate: float) -> str:
        return f"fixed rate {learning_rate:g}"


@dataclass(frozen=True)
class SquareRoot(RateRule):
    """Like the root of the batch size, which keeps the noise of an update as it is (Krizhevsky 2014; Hoffer 2017)."""

    reference: int

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * math.sqrt(batch_size / self.reference)

    def key_fields(self) -> dict:
        return {"rule": "square root", "reference": self.reference}

    def describe(self, learning_rate: float) -> str:
        return f"square-root rate, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class LinearWarmUp(RateRule):
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

    def key_fields(self) -> dict:
        return {"rule": "linear with warm-up", "reference": self.reference, "warm_up_epochs": self.epochs}

    def describe(self, learning_rate: float) -> str:
        return f"linear rate with warm-up, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class AdamSde(RateRule):
    """For a batch k times as large, √k times the rate, k times 1 - beta1 and 1 - beta2, and eps / √k (Malladi et al.
    2022, definition 5.2), which keeps Adam's path in the limit of small rates. It is stated while k (1 - beta) < 1:
    beta1 stops at 0, beta2 at LEAST_BETA2."""

    reference: int

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * math.sqrt(batch_size / self.reference)

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        k = batch_size / self.reference

        def scaled(hyperparameters: Hyperparameters) -> Hyperparameters:
            beta1, beta2 = hyperparameters["betas"]
            betas = (max(0.0, 1 - k * (1 - beta1)), max(min(beta2, LEAST_BETA2), 1 - k * (1 - beta2)))
            return {**hyperparameters, "betas": betas, "eps": hyperparameters["eps"] / math.sqrt(k)}

        return optimizer.mapped(scaled)

    def key_fields(self) -> dict:
        return {"rule": "Adam SDE", "reference": self.reference, "least_beta2": LEAST_BETA2}

    def describe(self, learning_rate: float) -> str:
        return f"SDE rule, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class ConstantHalfLife(RateRule):
    """A fixed rate, with beta2 to the power of B / `reference`: the half-life of beta2's average, B log(1/2) /
    log(beta2) examples, stays the same (Marek et al. 2025). Below, beta2 stops at LEAST_BETA2."""

    reference: int

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        def scaled(hyperparameters: Hyperparameters) -> Hyperparameters:
            beta1, beta2 = hyperparameters["betas"]
            powered = beta2 ** (batch_size / self.reference)
            return {**hyperparameters, "betas": (beta1, max(min(beta2, LEAST_BETA2), powered))}

        return optimizer.mapped(scaled)

    def key_fields(self) -> dict:
        return {"rule": "constant half-life of beta2", "reference": self.reference, "least_beta2": LEAST_BETA2}

    def describe(self, learning_rate: float) -> str:
        return f"fixed rate {learning_rate:g}, half-life of beta2 as at batch size {self.reference}"


@dataclass(frozen=True)
class Decayed(RateRule):
    """Divided by `factor` after each of the epochs `after`, whatever the batch size."""

    factor: int
    after: tuple[int, ...]

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate / self.factor ** sum(updates >= epochs * updates_per_epoch for epochs in self.after)

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return updates in (epochs * updates_per_epoch for epochs in self.after)

    def key_fields(self) -> dict:
        return {"rule": "decayed", "factor": self.factor, "after_epochs": list(self.after)}

    def describe(self, learning_rate: float) -> str:
        return f"rate {learning_rate:g}, divided by {self.factor} after {listed(self.after)} epochs"


@dataclass(frozen=True)
class Tuned(RateRule):
    """The best of a grid, found for each batch size by itself: `suite.training.tuning`."""

    factor: float = 2.0
    """Between neighbours of the grid."""
    each_way: int = 4
    """How many rates it has below the workload's, and how many above."""
    growths: int = 2
    """How often it grows, by `each_way` more rates, where the best lies on its edge."""
    seeds: int = 3
    """Replicas that each rate is tried with, none of which is trained in the end."""

    def key_fields(self) -> dict:
        return {
            "rule": "tuned",
            "factor": self.factor,
            "each_way": self.each_way,
            "growths": self.growths,
            "seeds": self.seeds,
        }

    def describe(self, learning_rate: float) -> str:
        return "tuned rate"


FIXED = Fixed()
