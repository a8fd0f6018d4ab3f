"""What a training leaves: a row per look at the model, and how it ended."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd

from suite.training.protocol import Protocol

Look = tuple[int, float, float, float, float]
"""Updates made; loss and score on the training examples; loss and score on the test examples."""


Ended = Callable[[int, Protocol, Sequence[Look]], bool]
"""Whether a training, by its place among others, its protocol and the looks at it so far, need not go on."""


def ends(place: int, protocol: Protocol, seen: Sequence[Look]) -> bool:
    """Whether nothing is to be seen any more: the target is reached, or the loss no number."""
    train_loss = seen[-1][1]
    return protocol.budget.reached(train_loss) or not math.isfinite(train_loss)


def followed(
    packs: dict[range, Iterator[list[Look]]], protocols: Sequence[Protocol], ended: Ended = ends
) -> list[list[Look]]:
    """The looks at every training, by its place, up to that at which it has `ended`. A pack trains the places that
    it stands under and yields a look at each, at least; packs take turns, look by look."""
    seen = [[] for _ in protocols]
    going = dict(packs)

    def over(place: int) -> bool:
        return bool(seen[place]) and ended(place, protocols[place], seen[place])

    while going:
        for places, pack in list(going.items()):
            found = next(pack, None)
            for place, look in zip(places, found or (), strict=False):
                if not over(place):
                    seen[place].append(look)
            if found is None or all(map(over, places)):
                del going[places]
    return seen


def table(looks: Iterable[Look], protocol: Protocol, examples: int, batch_size: int) -> pd.DataFrame:
    """A row per look: `updates`, `epoch` (how many these are), `train_loss`, `train_score`, `test_loss`,
    `test_score`, and `status`, the same in each row: `diverged` when the training loss stops being finite or ends
    above its initial value, `target_not_reached` when a target loss was not."""
    frame = pd.DataFrame(looks, columns=["updates", "train_loss", "train_score", "test_loss", "test_score"])
    frame.insert(1, "epoch", protocol.epochs(frame["updates"], examples, batch_size))
    return frame.assign(status=status(frame["train_loss"], protocol))


def tables(seen: Sequence[Sequence[Look]], protocol: Protocol, examples: int, batch_size: int) -> pd.DataFrame:
    """The `table` of every replica's looks, below one another, with the replica's place as `seed`."""
    each = [table(of_replica, protocol, examples, batch_size) for of_replica in seen]
    return pd.concat(each, keys=range(len(each)), names=["seed"]).reset_index("seed")


def status(train_loss: pd.Series, protocol: Protocol) -> str:
    """How a training with these training losses ended."""
    if not train_loss.iloc[-1] <= train_loss.iloc[0]:
        return "diverged"
    if protocol.budget.needs_target and not protocol.budget.reached(train_loss.iloc[-1]):
        return "target_not_reached"
    return "ok"
