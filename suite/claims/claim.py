"""What a claim is: a row of the lecture's table that can be measured, judged, drawn and put into words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from suite.cells import Cell, Scope
from suite.optimizers import Optimizer, sgd
from suite.statistics import Interval, verdict
from suite.workloads import Data, Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Facts:
    """What a claim must know of a workload to judge stored rows without loading it."""

    name: str
    about: str
    small: int
    large: int
    train_examples: int
    test_examples: int
    middle: int
    learning_rate: float
    learning_rates: tuple[float, ...]
    epochs: int
    target_loss: float
    max_updates: int
    score_name: str
    resplit: bool
    published: dict[str, dict[str, float]]
    """Numbers that others published, by what was measured and batch size; empty where there are none."""
    published_by: str
    optimizer: Optimizer = field(default_factory=sgd)
    published_noise: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of the `noise scale` and the `critical batch` in examples, each at the `start` and its `average`."""
    published_noise_by: str = ""

    @classmethod
    def of(cls, workload: Workload, data: Data) -> Facts:
        return cls(
            name=workload.name,
            about=workload.about,
            small=workload.small,
            large=workload.large,
            train_examples=len(data.train_inputs),
            test_examples=len(data.test_inputs),
            middle=workload.middle,
            learning_rate=workload.learning_rate,
            learning_rates=workload.learning_rates,
            epochs=workload.epochs,
            target_loss=workload.target_loss,
            max_updates=workload.max_updates,
            score_name=workload.score_name,
            resplit=workload.resplit,
            published={
                what: {str(size): value for size, value in values.items()}
                for what, values in (workload.published.values.items() if workload.published else ())
            },
            published_by=workload.published.source if workload.published else "",
            optimizer=workload.optimizer,
            **_noise_that_others_found(workload),
        )

    def to_dict(self) -> dict:
        """As JSON has it."""
        return json.loads(json.dumps(asdict(self) | {"optimizer": self.optimizer.key_fields()}))

    @classmethod
    def from_dict(cls, stored: dict) -> Facts:
        """Restore what `to_dict` wrote; raise TypeError or KeyError for anything else."""
        restored = {
            "optimizer": Optimizer.from_key_fields(stored["optimizer"]),
            "learning_rates": tuple(stored["learning_rates"]),
        }
        return cls(**stored | restored)


def _noise_that_others_found(workload: Workload) -> dict:
    """What Facts say of it; nothing where there is none."""
    if (published := workload.published_noise) is None:
        return {}
    found = {"noise scale": published.noise_scale, "critical batch": published.critical_batch}
    values = {what: dict(zip(("start", "average"), both, strict=True)) for what, both in found.items()}
    return {"published_noise": values, "published_noise_by": published.source}


@dataclass(frozen=True)
class Evidence:
    """The stored rows of the cells that a claim reads, with the facts of their workload.

    A cell that could not be measured is a row with its `status` and `reason`, and nothing else.
    """

    facts: Facts
    rows: pd.DataFrame

    def ok(self) -> pd.DataFrame:
        return self.rows[self.rows["status"] == "ok"]


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, and the verdict."""

    backend: str
    protocol: str
    small: int
    large: int
    measure: str
    """What `effect` is."""
    unit: str
    """Unit of `value_small` and `value_large`."""
    value_small: float = math.nan
    value_large: float = math.nan
    effect: float = math.nan
    effect_low: float = math.nan
    effect_high: float = math.nan
    seeds: int = 0
    """Independent values behind the interval: seeds of a training, processes of a timing."""
    verdict: str = ""
    status: str = "ok"
    flags: str = ""
    null: float = 1
    """The claim holds where the effect lies above this, and fails below."""
    kind: str = "ratio"
    """Whether the effect is a `ratio` or a `difference`."""
    headline: bool = True
    """Whether the row stands in the table on the page; table.csv has every row."""

    @classmethod
    def judged(cls, interval: Interval, null: float = 1, **fields) -> Row:
        """A row with the effect of `interval` and its verdict against `null`."""
        return cls(
            effect=interval.estimate,
            effect_low=interval.low,
            effect_high=interval.high,
            seeds=interval.n,
            verdict=verdict(interval, null),
            null=null,
            **fields,
        )


@dataclass(frozen=True)
class Illustration:
    """A further figure that shows what a claim means, or where it holds."""

    draw: Callable[[Evidence], Figure | None]
    """None where its cells are not stored."""
    title: str
    says: str | Callable[[Facts], str]
    """In words; from the facts where they depend on the workload."""

    def sentence(self, facts: Facts) -> str:
        return self.says if isinstance(self.says, str) else self.says(facts)


@dataclass(frozen=True)
class Claim:
    """A row of the lecture's table. Everything about running and storing is elsewhere."""

    name: str
    row: int
    """Its place in the table."""
    title: str
    small: str
    """The lecture's word in the column Small."""
    large: str
    says: str
    """The lecture's claim as a sentence."""
    cells: Callable[[Workload, Scope], list[Cell]]
    judge: Callable[[Evidence], list[Row]]
    """The first sentence of its docstring is the rule for the verdict, printed on the page."""
    draw: Callable[[Evidence], Figure]
    explain: Callable[[Evidence, list[Row]], str]
    """In plain words: `paragraphs`."""
    numbers: Callable[[Evidence], pd.DataFrame]
    """The table under the figure."""
    illustrations: tuple[Illustration, ...] = ()
    columns: tuple[str, str] = ("Small", "Large")
    """What `small` and `large` stand under."""
    unfit: Callable[[Workload], str | None] = lambda workload: None
    """Why the claim cannot be measured of a workload; None where it can."""

    @property
    def rule(self) -> str:
        """The rule for the verdict, in one sentence."""
        return " ".join(self.judge.__doc__.split("\n\n")[0].split())


def backend_of(rows: pd.DataFrame) -> str:
    """The backend on which `rows`, all of one, were measured."""
    (backend,) = rows["backend"].unique()
    return backend


def process_medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Median seconds of each process (index) at each batch size (columns)."""
    medians = rows.pivot_table(index="process", columns="batch_size", values="time_s", aggfunc="median")
    return medians.sort_index(axis="columns")


def relative_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Median time of each process (index) at each batch size (columns), over its reference update's.

    Each batch size has processes of its own: they are compared only through the reference update that each
    of them timed as well, since processes differ more than what they time.
    """
    rows = rows.assign(relative=rows["time_s"] / rows["reference_s"])
    medians = rows.pivot_table(index="process", columns="batch_size", values="relative", aggfunc="median")
    return medians.sort_index(axis="columns")


def status_of(rows: pd.DataFrame) -> tuple[str, str]:
    """The status that stands for `rows` of which none can be judged, and its reason."""
    troubled = rows[rows["status"] != "ok"]
    if troubled.empty:
        return "unavailable", "not measured"
    reasons = troubled["reason"].dropna() if "reason" in troubled else pd.Series(dtype=str)
    return troubled["status"].iloc[0], reasons.iloc[0] if len(reasons) else ""


def measured_large(facts: Facts, rows: pd.DataFrame) -> tuple[int, str]:
    """The largest batch size measured in `rows` up to Large, and when that is not Large itself, a flag with the
    reason."""
    sizes = rows.loc[rows["status"] == "ok", "batch_size"]
    large = int(sizes[sizes <= facts.large].max())
    if large == facts.large:
        return large, ""
    return large, f"Large capped at {large}: {status_of(rows[rows['batch_size'] == facts.large])[1]}"


def paragraphs(*texts: str) -> str:
    """Those that say something, an empty line between them."""
    return "\n\n".join(text.strip() for text in texts if text.strip())
