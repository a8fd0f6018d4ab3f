"""Choose batch sizes from a table of time and examples to the target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

TOLERANCE = 1.1
"""A cost of up to this many times the lowest counts as equally good."""


@dataclass(frozen=True)
class Choice:
    fastest: int
    """The batch size that reaches the target in the shortest time."""
    cheapest: int
    """The largest batch size that needs at most 10% more examples than the fewest."""
    low: int
    high: int
    """Every batch size from `low` to `high` takes at most 10% more time than the fastest."""


def choose(table: pd.DataFrame, allowed: Collection[int]) -> Choice:
    """Choose among the `allowed` batch sizes, by the columns `time_s` and `examples` of all batch sizes (index)."""
    table = table.sort_index()
    times = table["time_s"]
    fastest = int(times[times.index.isin(allowed)].idxmin())
    nearly_fastest = [size for size in table.index if size in allowed and times[size] <= TOLERANCE * times[fastest]]
    return Choice(fastest, cheapest(table, allowed), *_around(fastest, nearly_fastest, list(table.index)))


def cheapest(table: pd.DataFrame, allowed: Collection[int]) -> int:
    """The largest `allowed` batch size that needs at most 10% more examples than the fewest of all.

    Where there is none, the `allowed` batch size that needs the fewest.
    """
    examples = table["examples"]
    allowed_examples = examples[examples.index.isin(allowed)]
    nearly_fewest = allowed_examples[allowed_examples <= TOLERANCE * examples.min()]
    return int(nearly_fewest.index.max() if len(nearly_fewest) else allowed_examples.idxmin())


def _around(size: int, members: Collection[int], sizes: Sequence[int]) -> tuple[int, int]:
    """The first and the last of the unbroken sequence of `members` around `size` in `sizes`."""
    low = high = sizes.index(size)
    while low > 0 and sizes[low - 1] in members:
        low -= 1
    while high + 1 < len(sizes) and sizes[high + 1] in members:
        high += 1
    return sizes[low], sizes[high]


def neighbours(size: int, sizes: Sequence[int]) -> list[int]:
    """`size` and the batch sizes next to it in `sizes`, ascending."""
    place = sizes.index(size)
    return list(sizes[max(0, place - 1) : place + 2])
