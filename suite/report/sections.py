"""Stored results read for the report: one section a claim and workload, judged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from suite.claims import Claim, Evidence, Facts, Row, all_claims
from suite.errors import UserError
from suite.results import Results

NOT_MEASURED = "not measured yet"
ALWAYS = (
    "status",
    "reason",
    "process",
    "time_s",
    "reference_s",
    "seed",
    "stage",
    "relative_noise",
    "updates",
    "train_loss",
)
"""Columns that claims select by: there, empty, even where no cell could be measured."""


@dataclass(frozen=True)
class Section:
    """A claim on a workload: what was stored, and what follows."""

    claim: Claim
    evidence: Evidence
    rows: list[Row]
    provenance: list[dict]
    """The metadata of every cell that was read."""


def sections(results: Results) -> list[Section]:
    """Judge every claim of every workload in the manifest. Raises UserError when there is none."""
    manifest = results.read_manifest()
    found, read = [], cache(lambda key: _rounded(results, key))
    for name in sorted(manifest["workloads"]):
        workload = manifest["workloads"][name]
        facts = _facts(results, workload)
        for claim in all_claims():
            if cells := workload["claims"].get(claim.name):
                rows, provenance = _read(results, cells, read)
                evidence = Evidence(facts, rows)
                found.append(Section(claim, evidence, claim.judge(evidence), provenance))
    if not found:
        raise UserError(f"no results in {results.folder}: run `suite run` first, or name a folder with --results")
    return found


def _facts(results: Results, workload: dict) -> Facts:
    try:
        return Facts.from_dict(workload["facts"])
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{results.manifest_file} was written by another version of the suite: run `suite run` again (no cell is "
            "lost)"
        ) from error


def _read(results: Results, cells: list[dict], read: Callable) -> tuple[pd.DataFrame, list[dict]]:
    """The rows of `cells` and their metadata. A cell that is not stored yet is a row that says so."""
    frames, provenance = [], []
    for cell in cells:
        description = {name: value for name, value in cell.items() if name != "key"}
        if results.has(cell["key"]):
            rows, metadata = read(cell["key"])
            frames.append(rows)
            provenance.append(metadata)
        else:
            frames.append(pd.DataFrame([{**description, "status": "unavailable", "reason": NOT_MEASURED}]))
    rows = pd.concat(frames, ignore_index=True)
    return rows.reindex(columns=dict.fromkeys([*rows, *ALWAYS])), provenance


def _rounded(results: Results, key: str) -> tuple[pd.DataFrame, dict]:
    """A stored cell's rows, to six significant digits, and its metadata."""
    rows, metadata = results.read(key)
    floats = rows.select_dtypes("float").columns
    rows[floats] = rows[floats].map(six_digits)
    return rows, metadata


def six_digits(value: float) -> float:
    """`value` to six significant digits: what a reader could see, and the same on every platform."""
    return float(f"{value:.6g}") if np.isfinite(value) else value
