"""Whatever could not be measured, the page says so and why: in a row of its table, in words, or as a gap."""

import itertools

import pandas as pd
import pytest

from suite.backends import BACKENDS
from suite.claims import Claim, all_claims
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Scope
from suite.report.page import gap_text
from suite.report.sections import Section, analysed, read_evidence
from suite.report.table import flags_text
from suite.runs.store import Results
from suite.studies import studies_of
from tests.conftest import tiny
from tests.evidence import FACTS

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), 5, 2, tuple(BACKENDS), training_backend="cpu", factorial=True)


def texts(section: Section) -> str:
    """Everything that the page says about a claim beside its figures."""
    claim, findings = section.claim, section.findings
    studies = [view(part.findings) for part in section.studies for view in (part.study.answer, part.study.explain)]
    rows = [flags_text(row) for row in section.rows if row.headline]
    return " ".join([claim.answer(findings), claim.explain(findings), *studies, *rows, *map(gap_text, section.gaps)])


def failed(cells: list[dict]) -> pd.DataFrame:
    """A row for each cell, as it is stored where it could not be measured."""
    return pd.DataFrame(
        [cell | {"status": "out_of_memory", "reason": f"no room for <{cell['measurement']}>"} for cell in cells]
    )


def section_of(claim: Claim, facts: Facts, evidence: dict[str, pd.DataFrame]) -> Section:
    """The section of a claim from rows by the name of the claim and of each study."""
    return analysed(claim, facts, {name: Evidence.from_frames(facts, [rows]) for name, rows in evidence.items()})


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.name)
def test_where_every_cell_failed_every_reason_is_told(claim):
    plugins = [claim, *studies_of(claim.name)]
    cells = {plugin.name: [cell.describe() for cell in plugin.cells(tiny(), SCOPE)] for plugin in plugins}
    page = texts(section_of(claim, FACTS, {name: failed(rows) for name, rows in cells.items() if rows}))
    for cell in itertools.chain(*cells.values()):
        assert f"no room for <{cell['measurement']}>" in page
    assert "nan" not in page


DESCRIBED = ["measurement", "workload", "backend", "protocol", "learning_rate", "input_pipeline", "batch_size"]


def without(rows: pd.DataFrame, measurement: str) -> pd.DataFrame:
    """The rows with every cell of `measurement` failed."""
    cells = rows.loc[rows["measurement"] == measurement, DESCRIBED].drop_duplicates().to_dict("records")
    return pd.concat([rows[rows["measurement"] != measurement], failed(cells)], ignore_index=True)


@pytest.mark.parametrize("claim", ["gradient", "optimization", "generalization", "sharpness"])
def test_where_a_measurement_failed_its_reason_is_told(trained, claim):
    """Each measurement of a quick run in turn."""
    claim = next(candidate for candidate in all_claims() if candidate.name == claim)
    facts, evidence = read_evidence(Results(trained), "tiny", claim)
    rows = {name: part.rows for name, part in evidence.items()}
    for measurement in set().union(*(part["measurement"] for part in rows.values())):
        page = texts(section_of(claim, facts, {name: without(part, measurement) for name, part in rows.items()}))
        assert f"no room for <{measurement}>" in page, measurement
        assert "nan" not in page, page
