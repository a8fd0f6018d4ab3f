"""Rate rules: the learning rate, and for Adam other hyperparameters, as a function of the batch size.

A rule gives the learning rate of every update of a training, from the workload's learning rate and the batch size. A
scaling rule assumes that the workload's learning rate and hyperparameters are right at the batch size `reference`.
"""

import math
from dataclasses import dataclass

from suite.optimizers import Optimizer
from suite.optimizers.forms import Hyperparameters

LEAST_BETA2 = 0.9
"""A rule never lowers beta2 below this value, nor below the optimizer's beta2 where that is smaller."""


def listed(epochs: tuple[int, ...]) -> str:
    """Numbers of epochs in a sentence.

    >>> listed((3, 6, 8))
    '3, 6 and 8'
    """
    *before, last = map(str, epochs)
    return f"{', '.join(before)} and {last}" if before else last


class RateRule:
    """The base of rules: a constant learning rate, and hyperparameters that do not depend on the batch size."""

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        """The learning rate of the update that follows `updates` earlier ones."""
        return learning_rate

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        """Whether the learning rate may change at the update that follows `updates` earlier ones."""
        return False

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        """The `optimizer` with its hyperparameters for `batch_size`."""
        return optimizer

    def key_fields(self) -> dict:
        """The plain values that determine the rule."""
        raise NotImplementedError

    def describe(self, learning_rate: float) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed(RateRule):
    """The same learning rate for every batch size, as in the lecture."""

    def key_fields(self) -> dict:
        return {"rule": "fixed"}

    def describe(self, learning_rate: float) -> str:
        return f"fixed rate {learning_rate:g}"


@dataclass(frozen=True)
class SquareRoot(RateRule):
    """A learning rate proportional to the square root of the batch size, which keeps the noise of an update constant
    (Krizhevsky 2014; Hoffer 2017).

    >>> SquareRoot(reference=4).rate(0.1, batch_size=16, updates=0, updates_per_epoch=10)
    0.2
    """

    reference: int

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * math.sqrt(batch_size / self.reference)

    def key_fields(self) -> dict:
        return {"rule": "square root", "reference": self.reference}

    def describe(self, learning_rate: float) -> str:
        return f"square-root rate, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class LinearWarmUp(RateRule):
    """A learning rate proportional to the batch size, with a linear warm-up from the unscaled rate over the first
    `epochs` (Goyal 2017: 5 of 90). Batch sizes below `reference` have no warm-up."""

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
    """Adam's square-root scaling: for a batch k times as large, √k times the learning rate, k times 1 - beta1 and
    1 - beta2, and eps / √k (Malladi et al. 2022, definition 5.2), which keeps Adam's trajectory in the limit of small
    learning rates. It is defined while k (1 - beta) < 1: beta1 stops at 0, beta2 at `least_beta2`."""

    reference: int
    least_beta2: float = LEAST_BETA2

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * math.sqrt(batch_size / self.reference)

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        k = batch_size / self.reference

        def scaled(hyperparameters: Hyperparameters) -> Hyperparameters:
            beta1, beta2 = hyperparameters["betas"]
            betas = (max(0.0, 1 - k * (1 - beta1)), max(min(beta2, self.least_beta2), 1 - k * (1 - beta2)))
            return {**hyperparameters, "betas": betas, "eps": hyperparameters["eps"] / math.sqrt(k)}

        return optimizer.mapped(scaled)

    def key_fields(self) -> dict:
        return {"rule": "Adam SDE", "reference": self.reference, "least_beta2": self.least_beta2}

    def describe(self, learning_rate: float) -> str:
        return f"SDE rule, {learning_rate:g} at batch size {self.reference}"


@dataclass(frozen=True)
class ConstantHalfLife(RateRule):
    """A fixed learning rate, and beta2 to the power of B / `reference`: the half-life of beta2's average,
    B log(1/2) / log(beta2) examples, is constant (Marek et al. 2025). beta2 stops at `least_beta2`."""

    reference: int
    least_beta2: float = LEAST_BETA2

    def optimizer(self, optimizer: Optimizer, batch_size: int) -> Optimizer:
        def scaled(hyperparameters: Hyperparameters) -> Hyperparameters:
            beta1, beta2 = hyperparameters["betas"]
            powered = beta2 ** (batch_size / self.reference)
            return {**hyperparameters, "betas": (beta1, max(min(beta2, self.least_beta2), powered))}

        return optimizer.mapped(scaled)

    def key_fields(self) -> dict:
        return {"rule": "constant half-life of beta2", "reference": self.reference, "least_beta2": self.least_beta2}

    def describe(self, learning_rate: float) -> str:
        return f"fixed rate {learning_rate:g}, half-life of beta2 as at batch size {self.reference}"


@dataclass(frozen=True)
class Decayed(RateRule):
    """A learning rate that is divided by `factor` after each of the epochs `after`, at every batch size."""

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
    """The best learning rate of a grid, searched for each batch size by `suite.training.tuning`."""

    factor: float = 2.0
    """The ratio of neighbouring rates of the grid."""
    each_way: int = 4
    """Number of rates below the workload's learning rate, and of rates above."""
    growths: int = 2
    """Limit of extensions of the grid, by `each_way` rates each, while the best rate lies on its edge."""
    seeds: int = 3
    """Number of replicas that try each rate; the final training uses others."""
    fine_seeds: int = 0
    """Number of replicas that then try the best rate and its neighbours at the square root of `factor`; 0 where the
    grid is not refined."""

    def key_fields(self) -> dict:
        return {
            "rule": "tuned",
            "factor": self.factor,
            "each_way": self.each_way,
            "growths": self.growths,
            "seeds": self.seeds,
            **({"fine_seeds": self.fine_seeds} if self.fine_seeds else {}),
        }

    def describe(self, learning_rate: float) -> str:
        return "tuned rate"


FIXED = Fixed()
FINE_SEARCH = Tuned(fine_seeds=8)
"""The search of every comparison at tuned rates, to within a factor of √2 of the best rate."""
