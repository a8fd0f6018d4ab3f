"""What a study is: a further figure and sentence under a row, that shows why the row holds or where it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import pandas as pd
from matplotlib.figure import Figure

from suite.claims.claim import Findings, Row
from suite.evidence import Evidence
from suite.experiments.cell import Cell, Scope
from suite.workloads import Workload


@dataclass(frozen=True)
class Study(Generic[Findings]):
    """A study under the row of `claim`. `analyse` computes; the views of its findings only draw and phrase."""

    name: str
    claim: str
    """The name of the claim under whose row it stands."""
    place: int
    """Its place among the studies of that row."""
    title: str
    cells: Callable[[Workload, Scope], list[Cell]]
    """What it reads; no cells where it does not apply."""
    analyse: Callable[[Evidence], Findings]
    answer: Callable[[Findings], str]
    """One sentence that answers the study's question."""
    explain: Callable[[Findings], str]
    """One short paragraph: what the figure shows, the evidence, then its limits."""
    figure: Callable[[Findings], Figure | None] = lambda findings: None
    numbers: Callable[[Findings], pd.DataFrame] = lambda findings: pd.DataFrame()
    """A table as text; empty where there is none."""
    judge: Callable[[Findings], list[Row]] = lambda findings: []
    """Further rows of table.csv."""
    opens_section: bool = False
    """Whether its answer matters more than the row's own, and comes first in the row's section."""
