import math

import pandas as pd

from suite.experiments.cell import Cell
from suite.studies import phase_diagram
from suite.workloads.ball import EXAMPLES
from tests.conftest import tiny
from tests.evidence import evidence

CELLS = phase_diagram.cells(tiny(), scope=None)
STARTS, MOMENTA = (-2.0, -1.6, -0.5), (0.0, 0.5, 0.9)
"""Two starts above the top of the bump, one below."""


def phase(cell: Cell, shares: list[list[float]]) -> pd.DataFrame:
    """`shares`: a list per momentum."""
    rows = [
        {"start": start, "momentum": momentum, "crossed": share, "status": "ok"}
        for momentum, of_momentum in zip(MOMENTA, shares, strict=True)
        for start, share in zip(STARTS, of_momentum, strict=True)
    ]
    return pd.DataFrame(rows).assign(**cell.describe())


FROM_ABOVE = [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
FROM_EVERYWHERE = [[0, 0, 0.5], [1, 0, 0.5], [1, 1, 0.5]]


def test_each_phase_has_its_least_momentum_and_its_share_from_below():
    frames = [phase(cell, FROM_ABOVE if cell.batch_size == EXAMPLES else FROM_EVERYWHERE) for cell in CELLS]
    findings = phase_diagram.analyse(evidence(*frames))
    full, noisy = findings.phases[0], findings.phases[-1]
    assert len(findings.phases) == 6
    assert findings.problem is None
    assert (full.starts, full.momenta) == (STARTS, MOMENTA)
    assert full.shares == ((0, 0, 0), (1, 0, 0), (1, 1, 0))
    assert (full.least_momentum, full.share_from_below) == (0.5, 0)
    assert (noisy.least_momentum, noisy.share_from_below) == (0, 0.5)
    assert full.share_from_above == 1
    assert "end in the better minimum at η 0.005, 100% at η 0.02 and 100% at η 0.08" in phase_diagram.explain(
        findings
    )
    assert "only from starts higher than the bump and only with a momentum of at least 0.50" in phase_diagram.answer(
        findings
    )
    assert "noise can also carry a ball over the bump" in phase_diagram.explain(findings)
    assert len(phase_diagram.figure(findings).axes) == 6 + 1


def test_the_share_from_above_is_that_of_the_first_momentum_from_that_of_the_row_on():
    """Of momenta of 0.8 and 1."""
    rows = phase(CELLS[0], FROM_ABOVE).replace({"momentum": {0.5: 0.8, 0.9: 1.0}})
    (first, *_) = phase_diagram.analyse(evidence(rows)).phases
    assert (first.momentum, first.share_from_above) == (1, 1)


def test_balls_that_cross_from_below_are_not_denied():
    findings = phase_diagram.analyse(evidence(*(phase(cell, FROM_EVERYWHERE) for cell in CELLS)))
    assert "higher than the bump" not in phase_diagram.answer(findings)


def test_without_a_crossing_there_is_no_least_momentum():
    findings = phase_diagram.analyse(evidence(*(phase(cell, [[0, 0, 0]] * 3) for cell in CELLS)))
    assert all(math.isnan(phase.least_momentum) for phase in findings.phases)
    assert "no ball ends there" in phase_diagram.answer(findings)


def test_a_grid_that_was_not_measured_leaves_its_panel_empty():
    absent = pd.DataFrame([cell.describe() | {"status": "unavailable", "reason": "no device"} for cell in CELLS[1:]])
    findings = phase_diagram.analyse(evidence(phase(CELLS[0], FROM_ABOVE), absent))
    assert len(findings.phases) == 1
    assert "no device" in phase_diagram.explain(findings)
    assert len(phase_diagram.figure(findings).axes) == 6 + 1


def test_without_a_measurement_there_is_no_figure_and_the_reason_is_given():
    absent = pd.DataFrame([cell.describe() | {"status": "unavailable", "reason": "no device"} for cell in CELLS])
    findings = phase_diagram.analyse(evidence(absent))
    assert findings.phases == ()
    assert phase_diagram.figure(findings) is None
    assert "no device" in phase_diagram.answer(findings)
    assert phase_diagram.explain(findings) == ""
