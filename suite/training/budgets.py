"""Budgets of trainings: when a training is evaluated, and when it ends.

A budget gives the numbers of updates after which the model is evaluated (`checks`), the expected number of updates
(`expected_updates`), and whether a training loss ends the training (`reached`). `GrowingLengths` and
`TenthOfTraining` are those of several trainings and of the start of one: they give lengths in place of evaluations.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from suite.training.learning_rate import listed

MIN_LENGTH = 16
"""The least updates of the first of `GrowingLengths`."""


def updates_per_epoch(examples: int, batch_size: int) -> int:
    """Number of updates of an epoch, whose last batch may be smaller.

    >>> updates_per_epoch(20, 3)
    7
    """
    return -(-examples // batch_size)


def geometric_schedule(last: int, growth: float) -> Iterator[int]:
    """Numbers of updates from 0 to `last`, each about `growth` times the one before.

    >>> list(geometric_schedule(20, growth=1.5))
    [0, 1, 2, 3, 4, 6, 9, 14, 20]
    """
    updates = 0
    while updates < last:
        yield updates
        updates = max(updates + 1, round(updates * growth))
    yield last


@dataclass(frozen=True)
class EqualEpochs:
    """A budget of `epochs`, equal for every batch size, with an evaluation after each epoch."""

    epochs: int
    needs_target = False

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        per_epoch = updates_per_epoch(examples, batch_size)
        return iter(range(0, self.epochs * per_epoch + 1, per_epoch))

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
    """A budget of epochs, in which the batch size is multiplied by `factor` after each of the epochs `after`."""

    factor: int
    after: tuple[int, ...]

    def batch_size(self, first: int, epoch: int) -> int:
        """The batch size after `epoch` epochs; `first` is that of the first epoch.

        >>> [GrowingBatch(4, factor=2, after=(1, 3)).batch_size(8, epoch) for epoch in range(4)]
        [8, 16, 16, 32]
        """
        return first * self.factor ** sum(epoch >= milestone for milestone in self.after)

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
    """A budget of updates, equal for every batch size: those of `batch_size` in `epochs` (Shallue 2019, section 2).

    The model is evaluated on a geometric schedule.
    """

    epochs: int
    batch_size: int
    growth: float = 1.3
    needs_target = False

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        return geometric_schedule(self.expected_updates(examples, batch_size), self.growth)

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
    """A budget of updates for measurements that train on past the epochs, up to `max_updates`."""

    max_updates: int = field(kw_only=True)

    def key_fields(self) -> dict:
        return super().key_fields() | {"max_updates": self.max_updates}


@dataclass(frozen=True)
class TargetLoss:
    """A budget that ends when the mean training loss reaches `loss`, or after `max_updates` updates.

    The model is evaluated on a geometric schedule; the crossing is interpolated between the two evaluations around
    it.
    """

    loss: float
    max_updates: int
    growth: float = 1.1
    needs_target = True

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        return geometric_schedule(self.max_updates, self.growth)

    def expected_updates(self, examples: int, batch_size: int) -> int:
        """A guess: S (1 + b / B) (McCandlish 2018), with S a twentieth of `max_updates`, and b = 4."""
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
    """A target loss that is not expected before `first` updates: only the initial model is evaluated earlier."""

    first: int = 0

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        first = min(self.first, self.max_updates)
        return (check for check in super().checks(examples, batch_size) if not 0 < check < first)

    def key_fields(self) -> dict:
        return super().key_fields() | {"first_check": self.first}


@dataclass(frozen=True)
class FixedUpdates:
    """A budget of a number of `updates`, after which the model is evaluated."""

    updates: int
    needs_target = False

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        return iter((0, self.updates))

    def expected_updates(self, examples: int, batch_size: int) -> int:
        return self.updates

    def reached(self, training_loss: float) -> bool:
        return False

    def key_fields(self) -> dict:
        return {"budget": "fixed updates", "updates": self.updates}

    def __str__(self) -> str:
        return f"{self.updates} updates"


@dataclass(frozen=True)
class GrowingLengths:
    """Trainings from scratch, each `growth` times as long as the one before, until the mean training loss at the end
    is at most `loss`, or the length is `max_updates`.

    Rates are tuned at the first length that reaches `tuning_loss`.
    """

    loss: float
    tuning_loss: float
    max_updates: int
    growth: float = 1.5
    needs_target = True

    def lengths(self, examples: int, batch_size: int) -> Iterator[int]:
        """Numbers of updates, from an eighth of an epoch, but at least MIN_LENGTH.

        >>> list(GrowingLengths(0.1, 0.2, max_updates=50).lengths(examples=100, batch_size=10))
        [16, 24, 36, 50]
        """
        length = max(MIN_LENGTH, updates_per_epoch(examples, batch_size) // 8)
        while length < self.max_updates:
            yield length
            length = round(length * self.growth)
        yield self.max_updates

    def reached(self, training_loss: float) -> bool:
        return training_loss <= self.loss

    def key_fields(self) -> dict:
        return {
            "budget": "growing lengths",
            "loss": float(self.loss),
            "tuning_loss": float(self.tuning_loss),
            "max_updates": self.max_updates,
            "growth": self.growth,
        }

    def __str__(self) -> str:
        return (
            f"trainings from scratch, each {self.growth:g} times as long as the one before, until one ends at a "
            f"training loss of at most {self.loss:g}"
        )


@dataclass(frozen=True)
class TenthOfTraining:
    """A tenth of `epochs` at `batch_size`, after which the model is measured."""

    epochs: int
    batch_size: int
    needs_target = False

    def updates(self, examples: int) -> int:
        return max(1, round(self.epochs * examples / self.batch_size / 10))

    def key_fields(self) -> dict:
        return {"budget": "tenth of training", "epochs": self.epochs, "at_batch_size": self.batch_size}

    def __str__(self) -> str:
        return f"the first tenth of {self.epochs} epochs, trained at batch size {self.batch_size}"


Budget = EqualEpochs | GrowingBatch | EqualUpdates | TargetLoss | FixedUpdates | GrowingLengths | TenthOfTraining
