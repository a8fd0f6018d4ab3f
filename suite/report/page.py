"""The page: one self-contained HTML file."""

import base64
import re
from importlib.resources import files
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from suite.claims import Evidence, Facts
from suite.claims.drawing import thousands
from suite.report import table
from suite.report.sections import NOT_MEASURED, Section
from suite.report.style import save, style
from suite.training.engine import TRAINING
from suite.training.tuning import TUNED_TRAINING

MARKS = {"holds": "✓", "fails": "✗", "undecided": "?"}
"""A sign for each verdict, so that it can be read without colour."""

MEASURED_BY = {
    "machine": "Machine",
    "gpu": "GPU",
    "system": "System",
    "python": "Python",
    "torch": "torch",
    "numpy": "NumPy",
    "asv": "asv",
    "suite": "Suite",
    "commit": "Commit",
}


def write_page(sections: list[Section], rows: pd.DataFrame, folder: Path) -> Path:
    """Draw every figure and write index.html into `folder`. Returns the page's path."""
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for old in figures.iterdir():
        old.unlink()
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / name).read_text()),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["symbols"] = _symbols
    page = environment.get_template("page.html").render(
        css=(files(__package__) / "page.css").read_text(),
        workloads=_workloads(sections, rows, figures),
        measured_by=_measured_by(sections),
        trained_on=_trained_on(sections),
        missing=sum(int((section.evidence.rows["reason"] == NOT_MEASURED).sum()) for section in sections),
    )
    path = folder / "index.html"
    path.write_text(page)
    return path


def _workloads(sections: list[Section], rows: pd.DataFrame, figures: Path) -> list[dict]:
    """What the template shows of each workload."""
    shown = []
    for name in dict.fromkeys(section.evidence.facts.name for section in sections):
        own = [section for section in sections if section.evidence.facts.name == name]
        headline = rows[(rows["workload"] == name) & rows["headline"]]
        lines = [_shown_row(row) for _, row in headline.iterrows()]
        shown.append(
            {
                "facts": own[0].evidence.facts,
                "tables": [
                    {
                        "columns": columns,
                        "heads": _heads(columns, own[0].evidence.facts),
                        "rows": [line for line in lines if line["columns"] == columns],
                    }
                    for columns in dict.fromkeys(line["columns"] for line in lines)
                ],
                "sections": [
                    _shown_section(section, [line for line in lines if line["claim"] == section.claim.name], figures)
                    for section in own
                ],
            }
        )
    return shown


def _heads(columns: tuple[str, str], facts: Facts) -> list[str]:
    """What stands above measured values: Small and Large with their batch sizes."""
    sizes = {"Small": f": {thousands(facts.small)}", "Large": f": {thousands(facts.large)}"}
    return [f"{column}{sizes.get(column, '')}" for column in columns]


def _shown_row(row: pd.Series) -> dict:
    """A line of the table, every value as text."""
    judged = row["status"] == "ok"
    return {
        "claim": row["claim"],
        "columns": row["columns"],
        "title": row["title"],
        "backend": row["backend"],
        "lecture_small": row["lecture_small"],
        "lecture_large": row["lecture_large"],
        "value_small": table.value(row["value_small"], row["unit"]) if judged else "–",
        "value_large": table.value(row["value_large"], row["unit"]) if judged else "–",
        "unit": "" if row["unit"] == "s" else row["unit"],
        "effect": table.effect(row),
        "measure": f"{row['what']}; holds above {row['null']:g}",
        "verdict": table.verdict(row),
        "mark": MARKS.get(row["verdict"], "–"),
        "css_class": row["verdict"] or "none",
        "flags": row["flags"],
        "judged": judged,
    }


def _shown_section(section: Section, rows: list[dict], figures: Path) -> dict:
    claim, evidence = section.claim, section.evidence
    name = f"{claim.name}_{evidence.facts.name}"
    explanation = claim.explain(evidence, section.rows)
    shown = {
        "claim": claim,
        "id": name,
        "rows": rows,
        "explanation": explanation.split("\n\n"),
        "gaps": _gaps(evidence, " ".join([explanation, *(row["flags"] for row in rows)])),
        "illustrations": [],
    }
    if not evidence.ok().empty:
        with style():
            shown["figure"] = _embedded(claim.draw(evidence), figures, name)
            drawn = [(one, one.draw(evidence)) for one in claim.illustrations]
            shown["illustrations"] = [
                (one, _embedded(figure, figures, f"{name}_illustration_{number}"))
                for number, (one, figure) in enumerate(drawn, 1)
                if figure
            ]
        shown["numbers"] = claim.numbers(evidence)
    return shown


def _gaps(evidence: Evidence, told: str) -> list[str]:
    """The cells that a curve lacks, those of one reason in one line: a figure must not hide that.

    A curve that lacks all of its cells is left out where the reason is `told` already, by a row or in words.
    """
    curve = ["measurement", "backend", "input_pipeline"]
    some = evidence.rows.groupby(curve)["status"].transform(lambda statuses: (statuses == "ok").any())
    lacking = evidence.rows[evidence.rows["reason"].notna()]
    lacking = lacking[some[lacking.index] | ~lacking["reason"].map(lambda reason: str(reason) in told)]
    lines = []
    for (measurement, backend, input_pipeline, status, reason), cells in lacking.groupby(
        [*curve, "status", "reason"], sort=False
    ):
        sizes = ", ".join(map(thousands, sorted(set(cells["batch_size"]))))
        what = f"{measurement.replace('_', ' ')} on {backend} ({input_pipeline})"
        lines.append(f"{what}, batch size {sizes}: {status.replace('_', ' ')}, {reason}")
    return lines


def _embedded(figure: Figure, figures: Path, name: str) -> dict:
    """Save a figure, and give it as the page embeds it."""
    picture = base64.b64encode(save(figure, figures, name).encode()).decode()
    return {"data": picture, "width": "wide" if figure.get_figwidth() > 7 else "narrow"}


def _trained_on(sections: list[Section]) -> str:
    """The backends of the workloads' own trainings, in words; empty where nothing was trained."""
    backends = set()
    for section in sections:
        rows = section.evidence.rows
        trained = rows["measurement"].isin([TRAINING.name, TUNED_TRAINING.name]) & (rows["status"] != "unavailable")
        backends |= set(rows.loc[trained, "backend"])
    return " and ".join(sorted(backends))


def _measured_by(sections: list[Section]) -> list[tuple[str, str]]:
    """Where the cells come from: each fact, with all of its values where cells differ."""
    provenance = [metadata for section in sections for metadata in section.provenance]
    facts = []
    for key, name in MEASURED_BY.items():
        values = sorted({metadata[key] for metadata in provenance if key in metadata})
        facts.append((name, "; ".join(values)))
    return facts


SYMBOLS = {
    r"\bB_same\b": "<i>B</i><sub>same</sub>",
    r"(?<!;)\blambda\b": "λ",
    r"(?<!;)\beta\b": "η",
    r"\bsqrt\(": "√(",
    r"(?<![\w)-])-(?=[\dη])|(?<= )-(?= )": "−",
}
"""By regular expressions; what an error quotes, as in <lambda> or 'eta', follows the semicolon of an escape."""


def _symbols(text: str) -> Markup:
    """`text` with its symbols and minus signs set as such."""
    marked = str(escape(text))
    for written, symbol in SYMBOLS.items():
        marked = re.sub(written, symbol, marked)
    return Markup(marked)
