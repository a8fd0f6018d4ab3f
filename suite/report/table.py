"""The table: every row as a frame, as CSV and as Markdown."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from suite.claims.drawing import bounds, seconds, thousands, three_digits
from suite.report.sections import Section
from suite.statistics import Interval

COLUMNS = [
    "workload",
    "backend",
    "protocol",
    "claim",
    "lecture_small",
    "lecture_large",
    "small",
    "large",
    "measure",
    "unit",
    "value_small",
    "value_large",
    "effect",
    "effect_low",
    "effect_high",
    "seeds",
    "verdict",
    "status",
    "flags",
]


def table(sections: list[Section]) -> pd.DataFrame:
    """A row per claim x workload x backend x protocol: the columns of table.csv, with `kind`, `headline` and the
    claim's `columns`."""
    lines = [
        {
            "workload": section.evidence.facts.name,
            "claim": section.claim.name,
            "title": section.claim.title,
            "lecture_small": section.claim.small,
            "lecture_large": section.claim.large,
            "columns": section.claim.columns,
            **asdict(row),
        }
        for section in sections
        for row in section.rows
    ]
    rows = pd.DataFrame(lines)
    nulls = rows["kind"] + ", null " + rows["null"].map("{:g}".format)
    return rows.assign(what=rows["measure"], measure=rows["measure"] + " (" + nulls + ")")


def value(number: float, unit: str) -> str:
    """A value with its unit, as a reader wants it."""
    if pd.isna(number):
        return "–"
    return (seconds(number) if unit == "s" else three_digits(number)).replace("-", "−")


def effect(row: pd.Series) -> str:
    """The effect with its interval, for example `×5.3 (4.9 to 5.8)`."""
    if pd.isna(row["effect"]):
        return "–"
    interval = Interval(row["effect"], row["effect_low"], row["effect_high"], row["seeds"])
    if row["kind"] == "ratio":
        return f"×{three_digits(row['effect'])} ({bounds(interval, three_digits)})"
    return f"{row['effect']:+.2g} ({bounds(interval, '{:+.2g}'.format)})".replace("-", "−")


def measured(row: pd.Series, which: str) -> str:
    """The value in the column `small` or `large`, with its batch size."""
    if row["status"] != "ok":
        return "–"
    return f"{value(row[f'value_{which}'], row['unit'])} at {thousands(row[which])}"


def verdict(row: pd.Series) -> str:
    """The verdict, or the status where there is none."""
    return row["verdict"] or row["status"].replace("_", " ")


def write_tables(rows: pd.DataFrame, folder: Path) -> None:
    """Write table.csv, every row with six significant digits, and table.md, the rows of the page."""
    rows[COLUMNS].to_csv(folder / "table.csv", index=False, float_format="%.6g", lineterminator="\n")
    (folder / "table.md").write_text(markdown(rows))


def markdown(rows: pd.DataFrame) -> str:
    """The tables of the page in Markdown: one for each pair of columns that claims have."""
    headline = rows[rows["headline"]]
    return "\n".join(_markdown(columns, own) for columns, own in headline.groupby("columns", sort=False))


def _markdown(columns: tuple[str, str], rows: pd.DataFrame) -> str:
    one, other = columns
    lines = [
        f"| | {one} | {other} | workload | backend | measured: {one} | measured: {other} | effect (95% interval) "
        "| verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        cells = [
            row["title"],
            row["lecture_small"],
            row["lecture_large"],
            row["workload"],
            row["backend"],
            *(measured(row, which) for which in ("small", "large")),
            effect(row),
            f"**{verdict(row)}**",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
