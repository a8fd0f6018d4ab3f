"""A protocol: which learning rate a batch size gets, and when its training stops.

A budget says after how many updates to look at the model (`checks`), about how many there will be
(`expected_updates`), and whether the training loss seen ends the training (`reached`).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from suite.training.learning_rate import FIXED, RateRule, listed
from suite.training.update_rule import DESCENT, UpdateRule, rule_named


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

    def __str__(self) -> str:
        return f"{self.epochs} epochs"


@dataclass(frozen=True)
class GrowingBatch(EqualEpochs):
    """Equal epochs, in which the batch size is multiplied by `factor` after each of so many."""

    factor: int
    after: tuple[int, ...]

    def batch_size(self, first: int, epoch: int) -> int:
        """Of the batches after so many epochs."""
        return first * self.factor ** sum(epoch >= one for one in self.after)

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        sizes = (self.batch_size(batch_size, epoch) for epoch in range(self.epochs))
        return itertools.accumulate((updates_per_epoch(examples, size) for size in sizes), initial=0)

    def expected_updates(self, examples: int, batch_size: int) -> int:
        return max(self.checks(examples, batch_size))

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

    def __str__(self) -> str:
        return f"the updates of {self.epochs} epochs at batch size {self.batch_size}"


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

    def __str__(self) -> str:
        return f"training loss {self.loss:g}"


@dataclass(frozen=True)
class ExpectedTarget(TargetLoss):
    """A target that is not expected before `first` updates: until then there is but the look at the start."""

    first: int = 0

    def checks(self, examples: int, batch_size: int) -> Iterator[int]:
        first = min(self.first, self.max_updates)
        return (check for check in super().checks(examples, batch_size) if not 0 < check < first)


@dataclass(frozen=True)
class TenthOfTraining:
    """A tenth of `epochs` at `batch_size`: how far a model is trained before it is looked at."""

    epochs: int
    batch_size: int
    needs_target = False

    def updates(self, examples: int) -> int:
        return max(1, round(self.epochs * examples / self.batch_size / 10))

    def __str__(self) -> str:
        return f"a tenth of {self.epochs} epochs at batch size {self.batch_size}"


Budget = EqualEpochs | GrowingBatch | EqualUpdates | TargetLoss | TenthOfTraining


@dataclass(frozen=True)
class Protocol:
    """A learning-rate rule with a budget, and how gradients move the parameters."""

    learning_rate: float
    """The one from which the rate rule starts."""
    budget: Budget
    rate_rule: RateRule = FIXED
    update_rule: UpdateRule = DESCENT
    momentum: float = 0.0
    with_replacement: bool = False
    """Whether each example of a batch is drawn from all, so that an epoch is only as many draws as there are
    examples; else an epoch has every example once."""

    @classmethod
    def of(
        cls, workload, budget: Budget, rate_rule: RateRule = FIXED, learning_rate: float | None = None
    ) -> "Protocol":
        """As a `workload`, or the facts of one, is trained: by its own update rule, from its own learning rate unless
        another is given."""
        rate = learning_rate or workload.learning_rate
        return cls(rate, budget, rate_rule, rule_named(workload.update_rule), workload.momentum)

    def __repr__(self) -> str:
        """Every field that determines a training. `with_replacement` only where it is so: cells are stored under what
        stands here, and were before there was a choice."""
        told = [field.name for field in fields(self) if field.name != "with_replacement" or self.with_replacement]
        return f"Protocol({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"

    def __str__(self) -> str:
        moved = "" if self.update_rule is DESCENT else f", {self.update_rule} {self.momentum:g}"
        drawn = ", drawn with replacement" if self.with_replacement else ""
        return f"{self.rate_rule.describe(self.learning_rate)}{moved}, {self.budget}{drawn}"

    def batch_size(self, first: int, epoch: int) -> int:
        """Of the batches after so many epochs, `first` at first."""
        return self.budget.batch_size(first, epoch) if isinstance(self.budget, GrowingBatch) else first

    def epochs(self, updates: pd.Series, examples: int, batch_size: int) -> pd.Series:
        """How many so many updates are."""
        if not isinstance(self.budget, GrowingBatch):
            return updates / updates_per_epoch(examples, batch_size)
        ends = list(self.budget.checks(examples, batch_size))
        return pd.Series(np.interp(updates, ends, range(len(ends))), updates.index)

    def rate(self, examples: int, batch_size: int, updates: int) -> float:
        """The learning rate of an update from a batch of `batch_size` of so many `examples`, after so many
        `updates`."""
        return self.rate_rule.rate(self.learning_rate, batch_size, updates, updates_per_epoch(examples, batch_size))
