"""The page: one self-contained HTML file."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from suite.claims import Check, Row
from suite.evidence import Facts
from suite.formatting import sentences, thousands
from suite.report.figure_style import save, style
from suite.report.provenance import measured_by, trained_on
from suite.report.sections import Gap, Section, StudySection
from suite.report.table import (
    effect_text,
    flags_text,
    interval_text,
    is_shown,
    unavailable_text,
    value_text,
    verdict_text,
)
from suite.statistics import Verdict
from suite.status import Status

MARKS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.UNDECIDED: "?", Check.PASSED: "✓", Check.FAILED: "✗"}
"""A sign for each verdict, so that it can be read without colour."""


def write_page(sections: list[Section], folder: Path) -> Path:
    """Draw every figure and write index.html into `folder`. Returns the path of the page."""
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for stale in figures.iterdir():
        stale.unlink()
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / name).read_text()),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names = dict.fromkeys(section.facts.name for section in sections)
    with style():
        page = environment.get_template("page.html").render(
            css=(files(__package__) / "page.css").read_text(),
            workloads=[
                _workload([section for section in sections if section.facts.name == name], figures) for name in names
            ],
            measured_by=measured_by(sections),
            trained_on=trained_on(sections),
            missing=len(frozenset().union(*(section.missing for section in sections))),
        )
    path = folder / "index.html"
    path.write_text(page)
    return path


def _workload(sections: list[Section], figures: Path) -> dict:
    """The part of the page on one workload."""
    facts = sections[0].facts
    headings = dict.fromkeys(section.claim.columns for section in sections)
    return {
        "facts": facts,
        "tables": [
            {
                "columns": columns,
                "source": _source({section.claim.source for section in sections if section.claim.columns == columns}),
                "heads": _heads(columns, facts),
                "rows": [
                    _row(section, row)
                    for section in sections
                    if section.claim.columns == columns
                    for row in filter(is_shown, section.rows)
                ],
            }
            for columns in headings
        ],
        "unavailable": unavailable_text(sections),
        "sections": [_section(section, figures) for section in sections],
    }


def _source(sources: set[str]) -> str:
    """Who makes the claims of a table; "The claim" where several do."""
    return next(iter(sources)) if len(sources) == 1 else "The claim"


def _heads(columns: tuple[str, str], facts: Facts) -> list[str]:
    """The headings above measured values: Small and Large with their batch sizes."""
    sizes = {"Small": f": {thousands(facts.small)}", "Large": f": {thousands(facts.large)}"}
    return [f"{column}{sizes.get(column, '')}" for column in columns]


def _row(section: Section, row: Row) -> dict:
    """A line of the table, every value as text."""
    compared = row.status == Status.OK
    return {
        "claim": section.claim,
        "backend": row.backend,
        "value_small": value_text(row.value_small, row.unit) if compared else "–",
        "value_large": value_text(row.value_large, row.unit) if compared else "–",
        "unit": "" if row.unit == "s" else row.unit,
        "effect": effect_text(row),
        "measure": _measure_note(row) if compared else "",
        "verdict": verdict_text(row),
        "mark": MARKS.get(row.verdict, "–"),
        "css_class": row.verdict.name.lower() if row.verdict else "none",
        "flags": flags_text(row),
        "protocol": str(row.protocol),
        "interval": f"{_capitalised(row.measure)}: {interval_text(row)}." if compared else "",
    }


def _measure_note(row: Row) -> str:
    """The line below an effect: what it is, and how many values are behind its interval."""
    values = f"{thousands(row.effect.n)} {'processes' if row.unit == 's' else 'seeds'}"
    if row.effect_text:
        return values
    side = f"within a factor of {row.factor:g} of" if row.factor else "above"
    return f"{row.measure}; holds {side} {row.null:g}; {values}"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _section(section: Section, figures: Path) -> dict:
    """A claim's section of the page."""
    claim, findings = section.claim, section.findings
    name = f"{claim.name}_{section.facts.name}"
    explanation = claim.explain(findings)
    if section.opening:
        explanation = sentences(claim.answer(findings), explanation)
    return {
        "claim": claim,
        "id": name,
        "rows": [_row(section, row) for row in section.rows if row.headline],
        "answer": section.answer,
        "explanation": explanation,
        "gaps": list(map(gap_text, section.gaps)),
        "studies": [_study(part, section, figures) for part in section.studies],
        "figure": _embedded(claim.figure(findings) if section.has_values else None, figures, name),
        "numbers": claim.numbers(findings) if section.has_values else pd.DataFrame(),
    }


def _study(part: StudySection, section: Section, figures: Path) -> dict:
    """A study's folded part of a section."""
    study, findings = part.study, part.findings
    return {
        "title": study.title,
        "answer": "" if part is section.opening else study.answer(findings),
        "explanation": study.explain(findings),
        "figure": _embedded(study.figure(findings), figures, f"{study.name}_{section.facts.name}"),
        "numbers": study.numbers(findings),
    }


def gap_text(gap: Gap) -> str:
    """One sentence about cells without a value."""
    sizes = ", ".join(map(thousands, gap.batch_sizes))
    quantity = f"{gap.measurement.replace('_', ' ')} on {gap.backend} ({gap.input_pipeline})"
    return f"{quantity}, batch size {sizes}: {gap.status.text}, {gap.reason}."


def _embedded(figure: Figure | None, figures: Path, name: str) -> dict | None:
    """Save a figure, and return it as the page embeds it; None where there is none."""
    if figure is None:
        return None
    picture = base64.b64encode(save(figure, figures, name).encode()).decode()
    return {"data": picture, "width": "wide" if figure.get_figwidth() > 7 else "narrow"}
