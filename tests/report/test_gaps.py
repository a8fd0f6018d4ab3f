"""Whatever could not be measured, the page says so and why: in a row of its table, in words, or as a gap."""

import pandas as pd
import pytest

from suite.backends import BACKENDS
from suite.cells import Scope
from suite.claims import Claim, Evidence, all_claims
from suite.report.page import _gaps
from suite.report.sections import ALWAYS, sections
from suite.results import Results
from tests.claims.evidence import FACTS
from tests.conftest import tiny

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), 5, 2, tuple(BACKENDS), training_backend="cpu", factorial=True)


def said(claim: Claim, evidence: Evidence) -> str:
    """What the page says of it beside its figures."""
    rows = claim.judge(evidence)
    told = " ".join([claim.explain(evidence, rows), *(row.flags for row in rows if row.headline)])
    return " ".join([told, *_gaps(evidence, told)])


def failed(cells: list[dict]) -> pd.DataFrame:
    """A row for each, as it is stored where it could not be measured."""
    return pd.DataFrame(
        [cell | {"status": "out_of_memory", "reason": f"no room for <{cell['measurement']}>"} for cell in cells]
    )


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.name)
def test_where_everything_failed_every_reason_is_said(claim):
    cells = [cell.describe() for cell in claim.cells(tiny(), SCOPE)]
    evidence = Evidence(FACTS, failed(cells).reindex(columns=dict.fromkeys([*cells[0], *ALWAYS])))
    page = said(claim, evidence)
    for cell in cells:
        assert f"no room for <{cell['measurement']}>" in page


def test_where_one_measurement_failed_its_reason_is_said(trained):
    """Of a quick run, one after another."""
    for section in sections(Results(trained)):
        rows = section.evidence.rows
        for name in rows["measurement"].unique():
            described = [
                "measurement",
                "workload",
                "backend",
                "protocol",
                "learning_rate",
                "input_pipeline",
                "batch_size",
            ]
            cells = rows.loc[rows["measurement"] == name, described].drop_duplicates().to_dict("records")
            left = pd.concat([rows[rows["measurement"] != name], failed(cells)], ignore_index=True)
            evidence = Evidence(section.evidence.facts, left)
            page = said(section.claim, evidence)
            assert f"no room for <{name}>" in page, (section.claim.name, name)
            assert "nan" not in page, page
