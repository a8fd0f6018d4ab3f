"""The evaluations during a training, and its status."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from suite.status import Status
from suite.training.protocol import Protocol

Evaluation = tuple[int, float, float, float, float]
"""Updates so far; loss and score on the training examples; loss and score on the test examples."""


Ended = Callable[[int, Protocol, Sequence[Evaluation]], bool]
"""`ended(place, protocol, history)`: whether the training with number `place` ends at its last evaluation so far."""


def ends(place: int, protocol: Protocol, history: Sequence[Evaluation]) -> bool:
    """Whether the training loss has reached the target, or is not finite."""
    train_loss = history[-1][1]
    return protocol.budget.reached(train_loss) or not math.isfinite(train_loss)


def run_packs(
    packs: dict[range, Iterator[list[Evaluation]]], protocols: Sequence[Protocol], ended: Ended = ends
) -> list[list[Evaluation]]:
    """Run packs of trainings in turns, and return the evaluations of each training until it has `ended`.

    `packs` maps the places of trainings, their numbers in `protocols`, to the iterator that trains them. It yields
    one evaluation per place, and may yield more behind these, which are dropped.
    """
    histories = [[] for _ in protocols]
    running = dict(packs)

    def is_over(place: int) -> bool:
        return bool(histories[place]) and ended(place, protocols[place], histories[place])

    while running:
        for places, pack in list(running.items()):
            evaluations = next(pack, None)
            for place, evaluation in zip(places, evaluations or (), strict=False):
                if not is_over(place):
                    histories[place].append(evaluation)
            if evaluations is None or all(map(is_over, places)):
                del running[places]
    return histories


def table(evaluations: Iterable[Evaluation], protocol: Protocol, examples: int, batch_size: int) -> pd.DataFrame:
    """A row per evaluation: `updates`, the same as `epoch`, `train_loss`, `train_score`, `test_loss`, `test_score`,
    and the `status` of the training, equal in each row."""
    frame = pd.DataFrame(evaluations, columns=["updates", "train_loss", "train_score", "test_loss", "test_score"])
    frame.insert(1, "epoch", protocol.epochs(frame["updates"], examples, batch_size))
    return frame.assign(status=status(frame, protocol).value)


def tables(
    histories: Sequence[Sequence[Evaluation]], protocol: Protocol, examples: int, batch_size: int
) -> pd.DataFrame:
    """The tables of the evaluations of all replicas, concatenated, with the number of the replica as `seed`."""
    frames = [table(history, protocol, examples, batch_size) for history in histories]
    return pd.concat(frames, keys=range(len(frames)), names=["seed"]).reset_index("seed")


def status(evaluations: pd.DataFrame, protocol: Protocol) -> Status:
    """The status of a training: DIVERGED where a loss or score is not finite, or the last training loss is above the
    first."""
    first, last = evaluations["train_loss"].iloc[[0, -1]]
    if not np.isfinite(evaluations).all(axis=None) or last > first:
        return Status.DIVERGED
    if protocol.budget.needs_target and not protocol.budget.reached(last):
        return Status.TARGET_NOT_REACHED
    return Status.OK
