"""A protocol: which learning rate a batch size gets, and when its training stops.

A budget says after how many updates to look at the model (`checks`), about how many there will be
(`expected_updates`), and whether the training loss seen ends the training (`reached`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from suite.training.learning_rate import FIXED, RateRule
from suite.training.update_rule import DESCENT, UpdateRule


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
class TenthOfTraining:
    """A tenth of `epochs` at `batch_size`: how far a model is trained before it is looked at."""

    epochs: int
    batch_size: int
    needs_target = False

    def updates(self, examples: int) -> int:
        return max(1, round(self.epochs * examples / self.batch_size / 10))

    def __str__(self) -> str:
        return f"a tenth of {self.epochs} epochs at batch size {self.batch_size}"


Budget = EqualEpochs | EqualUpdates | TargetLoss | TenthOfTraining


@dataclass(frozen=True)
class Protocol:
    """A learning-rate rule with a budget, and how gradients move the parameters."""

    learning_rate: float
    """The one from which the rate rule starts."""
    budget: Budget
    rate_rule: RateRule = FIXED
    update_rule: UpdateRule = DESCENT
    momentum: float = 0.0

    def __str__(self) -> str:
        moved = "" if self.update_rule is DESCENT else f", {self.update_rule} {self.momentum:g}"
        return f"{self.rate_rule.describe(self.learning_rate)}{moved}, {self.budget}"

    def rate(self, examples: int, batch_size: int, updates: int) -> float:
        """The learning rate of an update from a batch of `batch_size` of so many `examples`, after so many
        `updates`."""
        return self.rate_rule.rate(self.learning_rate, batch_size, updates, updates_per_epoch(examples, batch_size))
