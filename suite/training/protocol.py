"""A protocol: which learning rate a batch size gets, and when its training stops.

A budget says after how many updates to look at the model (`checks`), about how many there will be
(`expected_updates`), and whether the training loss seen ends the training (`reached`).
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from suite.optimizers import Optimizer, sgd
from suite.training.learning_rate import FIXED, Fixed, RateRule, listed


def updates_per_epoch(examples: int, batch_size: int) -> int:
    """The last batch of an epoch may be smaller."""
    return -(-examples // batch_size)


def growing(last: int, growth: float) -> Iterator[int]:
    """0, 1, 2, ... and then every `growth` times as many, up to `last`."""
    updates = 0
    while updates < last:
        yield updates
        updates = max(updates + 1, round(updates * growth))
    yield last


@dataclass(frozen=True)
class EqualEpochs:
    """Every batch size sees every example `epochs` times, and is looked at after each epoch."""

    epochs: int
    needs_target = False

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        an_epoch = updates_per_epoch(examples, batch_size)
        return iter(range(0, self.epochs * an_epoch + 1, an_epoch))

    def expected_updates(self, examples: int, batch_size: int) -> int:
        return self.epochs * updates_per_epoch(examples, batch_size)

    def reached(self, training_loss: float) -> bool:
        return False

    def key_fields(self) -> dict:
        return {"budget": "epochs", "epochs": self.epochs}

    def __str__(self) -> str:
        return f"{self.epochs} epochs"


@dataclass(frozen=True)
class GrowingBatch(EqualEpochs):
    """Equal epochs, in which the batch size is multiplied by `factor` after each of the epochs `after`."""

    factor: int
    after: tuple[int, ...]

    def batch_size(self, first: int, epoch: int) -> int:
        """Of the batches that follow `epoch` whole epochs."""
        return first * self.factor ** sum(epoch >= one for one in self.after)

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        sizes = (self.batch_size(batch_size, epoch) for epoch in range(self.epochs))
        return itertools.accumulate((updates_per_epoch(examples, size) for size in sizes), initial=0)

    def expected_updates(self, examples: int, batch_size: int) -> int:
        return max(self.checks(examples, batch_size))

    def key_fields(self) -> dict:
        return {
            "budget": "epochs, growing batch",
            "epochs": self.epochs,
            "factor": self.factor,
            "after_epochs": list(self.after),
        }

    def __str__(self) -> str:
        return f"{self.epochs} epochs, batch size times {self.factor} after {listed(self.after)}"


@dataclass(frozen=True)
class EqualUpdates:
    """Every batch size makes as many updates as `batch_size` does in `epochs` (Shallue 2019, section 2: a budget of
    updates), and is looked at after 0, 1, 2, ... and then every `growth` times as many."""

    epochs: int
    batch_size: int
    growth: float = 1.3
    needs_target = False

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        return growing(self.expected_updates(examples, batch_size), self.growth)

    def expected_updates(self, examples: int, batch_size: int) -> int:
        return self.epochs * updates_per_epoch(examples, self.batch_size)

    def reached(self, training_loss: float) -> bool:
        return False

    def key_fields(self) -> dict:
        return {
            "budget": "updates",
            "epochs": self.epochs,
            "at_batch_size": self.batch_size,
            "growth": self.growth,
        }

    def __str__(self) -> str:
        return f"the updates of {self.epochs} epochs at batch size {self.batch_size}"


@dataclass(frozen=True)
class CappedUpdates(EqualUpdates):
    """The same, of a measurement that trains on past the epochs, and gives up after `max_updates`."""

    max_updates: int = field(kw_only=True)

    def key_fields(self) -> dict:
        return super().key_fields() | {"max_updates": self.max_updates}


@dataclass(frozen=True)
class TargetLoss:
    """Every batch size trains until its mean training loss is `loss`, in at most `max_updates` updates.

    Looked at after 0, 1, 2, ... and then every `growth` times as many updates; the crossing is interpolated
    between the two looks around it.
    """

    loss: float
    max_updates: int
    growth: float = 1.1
    needs_target = True

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        return growing(self.max_updates, self.growth)

    def expected_updates(self, examples: int, batch_size: int) -> int:
        """A guess: S (1 + b / B) (McCandlish 2018), with S a twentieth of what is allowed, and b = 4."""
        return round(self.max_updates / 20 * (1 + 4 / batch_size))

    def reached(self, training_loss: float) -> bool:
        return training_loss <= self.loss

    def key_fields(self) -> dict:
        return {
            "budget": "training loss",
            "loss": float(self.loss),
            "max_updates": self.max_updates,
            "growth": self.growth,
        }

    def __str__(self) -> str:
        return f"training loss {self.loss:g}"


@dataclass(frozen=True)
class ExpectedTarget(TargetLoss):
    """A target that is not expected before `first` updates: until then there is but the look at the start."""

    first: int = 0

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        first = min(self.first, self.max_updates)
        return (check for check in super().checks(examples, batch_size) if not 0 < check < first)

    def key_fields(self) -> dict:
        return super().key_fields() | {"first_check": self.first}


@dataclass(frozen=True)
class TenthOfTraining:
    """A tenth of `epochs` at `batch_size`: how far a model is trained before it is looked at."""

    epochs: int
    batch_size: int
    needs_target = False

    def updates(self, examples: int) -> int:
        return max(1, round(self.epochs * examples / self.batch_size / 10))

    def key_fields(self) -> dict:
        return {"budget": "tenth of training", "epochs": self.epochs, "at_batch_size": self.batch_size}

    def __str__(self) -> str:
        return f"a tenth of {self.epochs} epochs at batch size {self.batch_size}"


Budget = EqualEpochs | GrowingBatch | EqualUpdates | TargetLoss | TenthOfTraining


@dataclass(frozen=True)
class Protocol:
    """A learning-rate rule with a budget, and an optimizer."""

    learning_rate: float
    """The one from which the rate rule starts."""
    budget: Budget
    rate_rule: RateRule = FIXED
    optimizer: Optimizer = field(default_factory=sgd)
    with_replacement: bool = False
    """Whether each example of a batch is drawn from all, so that an epoch is only as many draws as there are
    examples; else an epoch has every example once."""

    @classmethod
    def of(
        cls, workload, budget: Budget, rate_rule: RateRule = FIXED, learning_rate: float | None = None
    ) -> "Protocol":
        """As a `workload`, or the facts of one, is trained: with its own optimizer, from its own learning rate unless
        another is given."""
        rate = workload.learning_rate if learning_rate is None else learning_rate
        return cls(rate, budget, rate_rule, workload.optimizer)

    def __post_init__(self):
        if isinstance(self.budget, GrowingBatch) and not isinstance(self.rate_rule, Fixed):
            raise ValueError("a growing batch needs a fixed rate: every other rule goes by one batch size")

    def key_fields(self) -> dict:
        """What determines a training, in plain values. A class of optimizers without a stacked form is there by its
        name."""
        return {
            "learning_rate": float(self.learning_rate),
            "budget": self.budget.key_fields(),
            "rate_rule": self.rate_rule.key_fields(),
            "optimizer": self.optimizer.key_fields(),
            "with_replacement": self.with_replacement,
        }

    @property
    def key(self) -> str:
        """Hash of `key_fields`, by which claims find the rows of their trainings."""
        return hashlib.sha256(json.dumps(self.key_fields(), sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        drawn = ", drawn with replacement" if self.with_replacement else ""
        return f"{self.optimizer}, {self.rate_rule.describe(self.learning_rate)}, {self.budget}{drawn}"

    def optimizer_at(self, batch_size: int) -> Optimizer:
        """The optimizer with the hyperparameters that the rate rule gives `batch_size`."""
        return self.rate_rule.optimizer(self.optimizer, batch_size)

    def batch_size(self, first: int, epoch: int) -> int:
        """Of the batches that follow `epoch` whole epochs; those of the first epoch hold `first` examples."""
        return self.budget.batch_size(first, epoch) if isinstance(self.budget, GrowingBatch) else first

    def epochs(self, updates: pd.Series, examples: int, batch_size: int) -> pd.Series:
        """The epochs, whole or in part, that each number of `updates` makes."""
        if not isinstance(self.budget, GrowingBatch):
            return updates / updates_per_epoch(examples, batch_size)
        ends = list(self.budget.checks(examples, batch_size))
        return pd.Series(np.interp(updates, ends, range(len(ends))), updates.index)

    def rate(self, examples: int, batch_size: int, updates: int) -> float:
        """The learning rate of an update from a batch of `batch_size` of the `examples` that follows `updates`
        others."""
        return self.rate_rule.rate(self.learning_rate, batch_size, updates, updates_per_epoch(examples, batch_size))
