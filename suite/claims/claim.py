"""What a claim is: a row of the lecture's table that can be measured, analysed, judged, drawn and explained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from suite.evidence import Evidence, Problem
from suite.experiments.cell import Cell, Scope
from suite.statistics import Interval, Verdict, equivalence, verdict
from suite.status import Status
from suite.training.protocol import Protocol
from suite.workloads import Workload

Findings = TypeVar("Findings")
"""A frozen dataclass of plain numbers and intervals."""


NO_EFFECT = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Comparison:
    """An effect with its interval, and the two values that it compares."""

    effect: Interval
    small: float
    large: float


class Check(StrEnum):
    """The outcome for an identity, which is true or not: no interval judges it."""

    PASSED = "checked"
    FAILED = "check failed"


FEW_SEEDS = 5


@dataclass(frozen=True)
class RestsOnNormality:
    """Fewer than FEW_SEEDS seeds: too few to see whether their values are normally distributed."""

    seeds: int

    def __str__(self) -> str:
        return f"the interval of {self.seeds} seeds assumes normally distributed values"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, and the verdict."""

    backend: str
    protocol: Protocol | str
    small: int
    large: int
    measure: str
    """What `effect` is."""
    unit: str
    """Unit of `value_small` and `value_large`."""
    value_small: float = math.nan
    value_large: float = math.nan
    effect: Interval = NO_EFFECT
    """`effect.n` is the number of seeds of a training, or of processes of a timing."""
    verdict: Verdict | Check | None = None
    status: Status = Status.OK
    flags: tuple[Any, ...] = ()
    """What else a reader must know, as values: a `Problem`, or any frozen dataclass whose `str` is its text."""
    null: float = 1
    """The claim holds where the effect lies above this, and fails below."""
    factor: float | None = None
    """Where there is one, the claim holds where the effect lies within this factor of `null`, and fails outside."""
    kind: str = "ratio"
    """Whether the effect is a `ratio`, a `difference` or a plain `number`, or the error of a `check`."""
    headline: bool = True
    """Whether the row stands in the table on the page; table.csv has every row."""
    effect_text: str = ""
    """The effect as a lecturer would say it, where a bare ratio says little."""

    @property
    def notes(self) -> tuple[Any, ...]:
        """The flags, and whether the interval rests on normality: other intervals of so few values have no bounds."""
        few = self.effect.n < FEW_SEEDS and math.isfinite(self.effect.low)
        return (*self.flags, RestsOnNormality(self.effect.n)) if few else self.flags

    @classmethod
    def of(
        cls,
        outcome: Comparison | Problem,
        *,
        flags: tuple[Any, ...] = (),
        null: float = 1,
        factor: float | None = None,
        check: Check | None = None,
        **fields,
    ) -> Row:
        """The row of a comparison with the outcome of its `check`, else with its verdict against `null`; or of the
        problem that stands against it."""
        shared = {"null": null, "factor": factor, **fields}
        if isinstance(outcome, Problem):
            return cls(status=outcome.status, flags=(outcome, *flags), **shared)
        judged = equivalence(outcome.effect, null, factor) if factor else verdict(outcome.effect, null)
        return cls(
            value_small=outcome.small,
            value_large=outcome.large,
            effect=outcome.effect,
            verdict=check or judged,
            flags=flags,
            **shared,
        )


@dataclass(frozen=True)
class Claim(Generic[Findings]):
    """A row of the lecture's table. `analyse` computes; the views of its findings only judge, draw and phrase."""

    name: str
    row: int
    """Its place in the table."""
    title: str
    small: str
    """The word of `source` in the first of `columns`."""
    large: str
    says: str
    """The claim of `source` as a sentence."""
    rule: str
    """The rule of the verdict, in one sentence."""
    cells: Callable[[Workload, Scope], list[Cell]]
    """What it reads."""
    analyse: Callable[[Evidence], Findings]
    judge: Callable[[Findings], list[Row]]
    answer: Callable[[Findings], str]
    """One sentence that answers the row's question for a lecturer."""
    figure: Callable[[Findings], Figure | None]
    """None where there is nothing to draw."""
    explain: Callable[[Findings], str]
    """One short paragraph: the evidence, then its limits."""
    numbers: Callable[[Findings], pd.DataFrame]
    """The table below the figure, as text."""
    columns: tuple[str, str] = ("Small", "Large")
    """The headings above `small` and `large`."""
    source: str = "The lecture"
    """Who makes the claim."""
    unfit: Callable[[Workload], str | None] = lambda workload: None
    """Why the claim cannot be measured of a workload; None where it can."""
