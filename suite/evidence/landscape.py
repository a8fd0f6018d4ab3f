"""Surfaces and paths over two parameters."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Surface:
    """The training loss on a grid of two parameters."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    """A tuple per value of `second`."""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Surface | None:
        """The surface stored in `rows`; None where there are none."""
        if rows.empty:
            return None
        grid = rows.pivot(index="second", columns="first", values="train_loss")
        return cls(tuple(grid.columns), tuple(grid.index), tuple(map(tuple, grid.to_numpy())))


@dataclass(frozen=True)
class Path:
    """The parameters at the start and after each update."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Path:
        """The path stored in `rows`."""
        rows = rows.sort_values("updates")
        return cls(tuple(rows["first"]), tuple(rows["second"]))
