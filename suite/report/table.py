"""The table: every row as a frame, as CSV and as Markdown."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from suite.claims import Row
from suite.evidence import Problem
from suite.formatting import bounds, listed, ratio, seconds, signed, thousands, three_digits, with_bounds
from suite.report.sections import Section
from suite.statistics import Interval
from suite.status import Status


def table(sections: list[Section]) -> pd.DataFrame:
    """A row per claim x workload x backend x protocol: the columns of table.csv."""
    return pd.DataFrame(_line(section, row) for section in sections for row in section.rows)


def _line(section: Section, row: Row) -> dict:
    return {
        "workload": section.facts.name,
        "backend": row.backend,
        "protocol": str(row.protocol),
        "claim": section.claim.name,
        "lecture_small": section.claim.small,
        "lecture_large": section.claim.large,
        "small": row.small,
        "large": row.large,
        "measure": f"{row.measure} ({_kind_text(row)})",
        "unit": row.unit,
        "value_small": row.value_small,
        "value_large": row.value_large,
        "effect": row.effect.estimate,
        "effect_low": row.effect.low,
        "effect_high": row.effect.high,
        "seeds": row.effect.n,
        "verdict": row.verdict or "",
        "status": row.status,
        "flags": flags_text(row),
    }


def _kind_text(row: Row) -> str:
    """What kind of effect it is, and where it is judged."""
    if row.kind == "check":
        return row.kind
    factor = f", within a factor of {row.factor:g}" if row.factor else ""
    return f"{row.kind}, null {row.null:g}{factor}"


def flags_text(row: Row) -> str:
    return "; ".join(map(str, row.notes))


def value_text(number: float, unit: str) -> str:
    """A value with its unit."""
    if pd.isna(number):
        return "–"
    return seconds(number) if unit == "s" else three_digits(number)


def effect_text(row: Row) -> str:
    """The effect in the row's words, or with its interval, for example `×5.30 (4.90 to 5.80)`."""
    if row.status != Status.OK:
        return "–"
    return row.effect_text or interval_text(row)


def interval_text(row: Row) -> str:
    """The effect with its interval."""
    if row.kind == "difference":
        return with_bounds(row.effect, signed(_decimal_places(row.effect)))
    estimate = ratio(row.effect.estimate) if row.kind == "ratio" else three_digits(row.effect.estimate)
    return f"{estimate} ({bounds(row.effect, three_digits)})"


def _decimal_places(difference: Interval) -> int:
    """Places that show two digits of the largest of the estimate and its bounds."""
    values = (difference.estimate, difference.low, difference.high)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0)
    return max(0, 1 - math.floor(math.log10(largest))) if largest else 1


def verdict_text(row: Row) -> str:
    """The verdict, or the status where there is none."""
    return row.verdict.value if row.verdict else row.status.text


def is_shown(row: Row) -> bool:
    """Whether the row stands in the table of the page, and not in the line below it."""
    return row.headline and row.status != Status.UNAVAILABLE


def unavailable_text(sections: list[Section]) -> str:
    """The rows of one workload that this machine cannot measure, in one sentence; empty where there are none."""
    titles: dict[tuple[str, str], list[str]] = {}
    for section in sections:
        for row in section.rows:
            if row.headline and not is_shown(row):
                problem = next((flag for flag in row.flags if isinstance(flag, Problem)), row.status.text)
                titles.setdefault((row.backend, str(problem)), []).append(section.claim.title)
    parts = [f"{listed(rows)} on {backend} ({reason})" for (backend, reason), rows in titles.items()]
    return f"Not measured: {'; '.join(parts)}." if parts else ""


def write_tables(sections: list[Section], folder: Path) -> None:
    """Write table.csv, every row with six significant digits, and table.md, the tables of the page."""
    table(sections).to_csv(folder / "table.csv", index=False, float_format="%.6g", lineterminator="\n")
    (folder / "table.md").write_text(markdown(sections))


def markdown(sections: list[Section]) -> str:
    """The tables of the page in Markdown, one for each pair of column headings, and what was not measured."""
    headings = dict.fromkeys(section.claim.columns for section in sections)
    tables = [
        _markdown(columns, [section for section in sections if section.claim.columns == columns])
        for columns in headings
    ]
    names = dict.fromkeys(section.facts.name for section in sections)
    by_workload = {name: [section for section in sections if section.facts.name == name] for name in names}
    lines = [f"{name}: {text}\n" for name, group in by_workload.items() if (text := unavailable_text(group))]
    return "\n".join([*tables, *lines])


def _markdown(columns: tuple[str, str], sections: list[Section]) -> str:
    small, large = columns
    lines = [
        f"| | {small} | {large} | workload | backend | measured: {small} | measured: {large} "
        "| effect (95% interval) | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for section in sections:
        for row in filter(is_shown, section.rows):
            cells = [
                section.claim.title,
                section.claim.small,
                section.claim.large,
                section.facts.name,
                row.backend,
                _value_at(row.value_small, row.small, row),
                _value_at(row.value_large, row.large, row),
                effect_text(row),
                f"**{verdict_text(row)}**",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _value_at(number: float, batch_size: int, row: Row) -> str:
    """A value with its batch size, or one that is a batch size itself."""
    if row.status != Status.OK:
        return "–"
    if row.unit == "examples":
        return f"{value_text(number, row.unit)} examples"
    return f"{value_text(number, row.unit)} at {thousands(batch_size)}"
