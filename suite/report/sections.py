"""Stored results, analysed for the report: a section per workload and claim, with the studies under its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from suite.claims import Claim, Row, all_claims
from suite.errors import UserError
from suite.evidence import Evidence, Facts, Problem
from suite.runs.store import Results
from suite.status import Status
from suite.studies import Study, studies_of

NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class Gap:
    """Cells of a curve without a value, all for the same reason: a figure must not hide them."""

    measurement: str
    backend: str
    input_pipeline: str
    status: Status
    reason: str
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class StudySection:
    """A study on a workload, analysed."""

    study: Study
    findings: Any


@dataclass(frozen=True)
class Section:
    """A claim on a workload, analysed and judged, with its studies."""

    claim: Claim
    facts: Facts
    findings: Any
    rows: tuple[Row, ...]
    """Of the claim, then of its studies."""
    studies: tuple[StudySection, ...]
    gaps: tuple[Gap, ...]
    has_values: bool
    """Whether any cell of the claim has a value."""
    missing: frozenset[str]
    """The keys of the cells that are not measured yet."""
    provenance: tuple[dict, ...]
    """The metadata of every stored cell."""

    @property
    def opening(self) -> StudySection | None:
        """The study whose answer opens the section; None where it is the claim's own."""
        return next((part for part in self.studies if part.study.opens_section), None)

    @property
    def answer(self) -> str:
        """The sentence that opens the section."""
        opening = self.opening
        return opening.study.answer(opening.findings) if opening else self.claim.answer(self.findings)


def sections(results: Results) -> list[Section]:
    """Analyse every claim and study of every workload in the manifest. Raises UserError when there is none."""
    manifest = results.read_manifest()
    read = cache(lambda key: _rounded(results, key))
    analysed_sections = []
    for _, entry in sorted(manifest["workloads"].items()):
        facts = Facts.from_dict(entry["facts"])
        for claim in all_claims():
            if entry["claims"].get(claim.name):
                cells = _cells(entry, claim)
                evidence = {name: _evidence(results, facts, cells[name], read) for name in cells}
                keys = dict.fromkeys(cell["key"] for group in cells.values() for cell in group)
                provenance = [read(key)[1] for key in keys if results.has(key)]
                missing = frozenset(key for key in keys if not results.has(key))
                analysed_sections.append(analysed(claim, facts, evidence, provenance, missing))
    if not analysed_sections:
        raise UserError(f"no results in {results.folder}: run `suite run` first, or name a folder with --results")
    return analysed_sections


def read_evidence(results: Results, workload: str, claim: Claim) -> tuple[Facts, dict[str, Evidence]]:
    """The facts of a workload, and the stored rows by the name of the claim and of each of its studies."""
    entry = results.read_manifest()["workloads"][workload]
    facts = Facts.from_dict(entry["facts"])
    read = cache(lambda key: _rounded(results, key))
    return facts, {name: _evidence(results, facts, cells, read) for name, cells in _cells(entry, claim).items()}


def analysed(
    claim: Claim,
    facts: Facts,
    evidence: Mapping[str, Evidence],
    provenance: Sequence[dict] = (),
    missing: frozenset[str] = frozenset(),
) -> Section:
    """The section of a claim from the evidence of the claim and of its studies, by name."""
    findings = claim.analyse(evidence[claim.name])
    studies = tuple(
        StudySection(study, study.analyse(evidence[study.name]))
        for study in studies_of(claim.name)
        if study.name in evidence
    )
    study_rows = [row for part in studies for row in part.study.judge(part.findings)]
    rows = (*claim.judge(findings), *study_rows)
    everything = pd.concat([part.rows for part in evidence.values()], ignore_index=True)
    return Section(
        claim=claim,
        facts=facts,
        findings=findings,
        rows=rows,
        studies=studies,
        gaps=gaps(everything, _reasons(rows)),
        has_values=not evidence[claim.name].ok().empty,
        missing=missing,
        provenance=tuple(provenance),
    )


def _cells(entry: dict, claim: Claim) -> dict[str, list[dict]]:
    """The cells of a claim and of those of its studies that have any, by name."""
    studies = {study.name: entry["studies"].get(study.name) for study in studies_of(claim.name)}
    return {claim.name: entry["claims"][claim.name], **{name: cells for name, cells in studies.items() if cells}}


def gaps(rows: pd.DataFrame, explained: set[str]) -> tuple[Gap, ...]:
    """The cells that curves lack. A curve without any cell is left out where the table gives its reason already
    (`explained`)."""
    columns = ["measurement", "backend", "input_pipeline"]
    partial = rows.groupby(columns)["status"].transform(lambda statuses: (statuses == Status.OK).any())
    lacking = rows[rows["reason"].notna()]
    lacking = lacking[partial[lacking.index] | ~lacking["reason"].isin(explained)]
    return tuple(
        Gap(measurement, backend, pipeline, Status(status), reason, tuple(sorted(set(cells["batch_size"]))))
        for (measurement, backend, pipeline, status, reason), cells in lacking.groupby(
            [*columns, "status", "reason"], sort=False
        )
    )


def _reasons(rows: Sequence[Row]) -> set[str]:
    """The reasons that the table on the page gives."""
    flags = (flag for row in rows if row.headline for flag in row.flags)
    return {flag.reason for flag in flags if isinstance(flag, Problem)}


def _evidence(results: Results, facts: Facts, cells: list[dict], read: Callable) -> Evidence:
    """The rows of `cells`. A missing cell is a row that says so."""
    frames = []
    for cell in cells:
        if results.has(cell["key"]):
            frames.append(read(cell["key"])[0])
        else:
            description = {name: value for name, value in cell.items() if name != "key"}
            frames.append(pd.DataFrame([{**description, "status": Status.UNAVAILABLE, "reason": NOT_MEASURED}]))
    return Evidence.from_frames(facts, frames)


def _rounded(results: Results, key: str) -> tuple[pd.DataFrame, dict]:
    """A stored cell's rows, to six significant digits, and its metadata."""
    rows, metadata = results.read(key)
    floats = rows.select_dtypes("float").columns
    rows[floats] = rows[floats].map(six_digits)
    return rows, metadata


def six_digits(value: float) -> float:
    """`value` to six significant digits, which are the same on every platform."""
    return float(f"{value:.6g}") if np.isfinite(value) else value
