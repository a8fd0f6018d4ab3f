"""What a training leaves: a row per look at the model, and how it ended."""

import math
from collections.abc import Iterable

import pandas as pd

from suite.training.protocol import Protocol

Look = tuple[int, float, float, float, float]
"""Updates made; loss and score on the training examples; loss and score on the test examples."""


def ends(look: Look, protocol: Protocol) -> bool:
    """Whether nothing is to be seen after `look`: the target is reached, or the loss no number any more."""
    train_loss = look[1]
    return protocol.budget.reached(train_loss) or not math.isfinite(train_loss)


def table(looks: Iterable[Look], protocol: Protocol, updates_per_epoch: int) -> pd.DataFrame:
    """A row per look: `updates`, `epoch` (updates over updates per epoch), `train_loss`, `train_score`,
    `test_loss`, `test_score`, and `status`, the same in each row: `diverged` when the training loss stops being
    finite or ends above its initial value, `target_not_reached` when a target loss was not."""
    frame = pd.DataFrame(looks, columns=["updates", "train_loss", "train_score", "test_loss", "test_score"])
    frame.insert(1, "epoch", frame["updates"] / updates_per_epoch)
    return frame.assign(status=status(frame["train_loss"], protocol))


def status(train_loss: pd.Series, protocol: Protocol) -> str:
    """How a training with these training losses ended."""
    if not train_loss.iloc[-1] <= train_loss.iloc[0]:
        return "diverged"
    if protocol.budget.needs_target and not protocol.budget.reached(train_loss.iloc[-1]):
        return "target_not_reached"
    return "ok"
