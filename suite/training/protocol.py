"""A protocol: which learning rate a batch size gets, and when its training stops.

A budget says after how many updates to look at the model (`checks`), about how many there will be
(`expected_updates`), and whether the training loss seen ends the training (`reached`).
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class EqualEpochs:
    """Every batch size sees every example `epochs` times, and is looked at after each epoch."""

    epochs: int
    needs_target = False

    def checks(self, updates_per_epoch: int) -> Iterator[int]:
        return iter(range(0, self.epochs * updates_per_epoch + 1, updates_per_epoch))

    def expected_updates(self, updates_per_epoch: int) -> int:
        return self.epochs * updates_per_epoch

    def reached(self, training_loss: float) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.epochs} epochs"


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

    def checks(self, updates_per_epoch: int) -> Iterator[int]:
        updates = 0
        while updates < self.max_updates:
            yield updates
            updates = max(updates + 1, round(updates * self.growth))
        yield self.max_updates

    def expected_updates(self, updates_per_epoch: int) -> int:
        """A tenth of what it is allowed."""
        return self.max_updates // 10

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


@dataclass(frozen=True)
class Protocol:
    """A fixed learning rate with a budget."""

    learning_rate: float
    budget: EqualEpochs | TargetLoss | TenthOfTraining

    def __str__(self) -> str:
        return f"fixed rate {self.learning_rate:g}, {self.budget}"
