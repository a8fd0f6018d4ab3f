import numpy as np
import pandas as pd
import pytest

from suite.claims import local_minimum
from suite.claims.local_minimum import ABOVE, BELOW, NOISY, PROTOCOLS, ROLL_PROTOCOLS, Starts
from suite.evidence.toy import Toy
from suite.experiments.ball import ENDS, ROLLED_FROM, ROLLING
from suite.experiments.cell import Cell
from suite.training.momentum_pair import WITH, WITHOUT
from suite.workloads.ball import EXAMPLES
from tests.conftest import tiny
from tests.evidence import evidence

CELLS = local_minimum.cells(tiny(), scope=None)
STARTS = np.array([-2.2, -2.0, -1.8, -1.6, -1.0, -0.5])
"""Four above the top of the bump, two below."""


def cells_of(name: str) -> list[Cell]:
    """WITHOUT momentum or WITH it, one for each batch size."""
    return [cell for cell in CELLS if cell.measurement is ENDS and cell.protocol == PROTOCOLS[name]]


def ends(cell: Cell, crossed: list[int]) -> pd.DataFrame:
    rows = pd.DataFrame({"seed": range(len(STARTS)), "start": STARTS, "crossed": crossed, "status": "ok"})
    return rows.assign(**cell.describe())


def roll(name: str) -> pd.DataFrame:
    """Two balls that stay at rest for three updates."""
    (cell,) = (cell for cell in CELLS if cell.measurement is ROLLING and cell.protocol == ROLL_PROTOCOLS[name])
    rows = [
        {"updates": updates, "start": start, "position": start, "status": "ok"}
        for updates in range(4)
        for start in ROLLED_FROM
    ]
    return pd.DataFrame(rows).assign(**cell.describe())


def test_without_a_measurement_there_is_no_verdict_and_the_reason_is_given():
    absent = [cell.describe() | {"status": "unavailable", "reason": "no device"} for cell in CELLS]
    findings = local_minimum.analyse(evidence(pd.DataFrame(absent)))
    rows = local_minimum.judge(findings)
    assert {row.status for row in rows} == {"unavailable"}
    assert [row.headline for row in rows] == [True, False, False, False]
    assert local_minimum.figure(findings) is None
    assert "no device" in local_minimum.answer(findings)
    assert local_minimum.explain(findings) == ""
    assert local_minimum.numbers(findings).empty


def test_the_effect_is_paired_by_start_and_told_apart_by_height():
    frames = [ends(cell, [0, 0, 0, 0, 0, 0]) for cell in cells_of(WITHOUT)]
    frames += [ends(cell, [1, 1, 1, 1, 0, 0]) for cell in cells_of(WITH)]
    findings = local_minimum.analyse(evidence(*frames))
    rows = local_minimum.judge(findings)
    assert [row.effect.estimate for row in rows] == [1, 0, 1, 0]
    assert [row.verdict for row in rows] == ["holds", "undecided", "holds", "undecided"]
    assert [row.headline for row in rows] == [True, False, False, False]
    assert [row.effect.n for row in rows] == [4, 2, 4, 2]
    assert [(row.small, row.large) for row in rows] == [(EXAMPLES, EXAMPLES)] * 2 + [(NOISY, NOISY)] * 2
    assert {row.null for row in rows} == {0}
    assert rows[3].flags == (Toy("tiny", "SGD"), Starts(BELOW, NOISY))
    assert "100% end in the better minimum with momentum and 0% without" in local_minimum.answer(findings)
    assert "0% end in the better minimum without momentum and 0% with it" in local_minimum.explain(findings)
    assert len(local_minimum.numbers(findings)) == 4


def test_the_interval_is_that_of_the_differences_of_each_start():
    frames = [ends(cell, [1, 0, 0, 0, 1, 0]) for cell in cells_of(WITHOUT)]
    frames += [ends(cell, [1, 1, 1, 0, 0, 1]) for cell in cells_of(WITH)]
    findings = local_minimum.analyse(evidence(*frames))
    above, below = (findings.ends[EXAMPLES][height] for height in (ABOVE, BELOW))
    assert (above.small, above.large, above.effect.estimate) == (0.25, 0.75, 0.5)
    assert above.effect.low == pytest.approx(0.5 - 3.18245 * 0.57735 / 2, abs=1e-4)
    assert (below.small, below.large, below.effect.estimate) == (0.5, 0.5, 0)


def test_full_batches_are_judged_where_small_ones_were_not_measured():
    frames = [ends(cell, [0, 0, 0, 0, 0, 0]) for cell in cells_of(WITHOUT)[:1]]
    frames += [ends(cell, [1, 1, 1, 1, 0, 0]) for cell in cells_of(WITH)[:1]]
    absent = [
        cell.describe() | {"status": "unavailable", "reason": "no device"}
        for cell in (cells_of(WITHOUT)[1], cells_of(WITH)[1])
    ]
    findings = local_minimum.analyse(evidence(*frames, pd.DataFrame(absent)))
    assert [row.status for row in local_minimum.judge(findings)] == ["ok", "ok", "unavailable", "unavailable"]
    assert "noise" not in local_minimum.explain(findings)
    assert len(local_minimum.numbers(findings)) == 2


def test_balls_are_drawn_from_both_starts():
    findings = local_minimum.analyse(evidence(roll(WITHOUT), roll(WITH)))
    assert [ball.start for ball in findings.rolls[WITH]] == list(ROLLED_FROM)
    assert findings.rolls[WITH][0].positions == (ROLLED_FROM[0],) * 4
    for axes in local_minimum.figure(findings).axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["from −2", "from −1.3"]


@pytest.mark.filterwarnings("error")
def test_a_panel_without_balls_is_drawn_without_a_warning():
    """As after a run that was killed: one cell is stored."""
    without_axes, with_axes = local_minimum.figure(local_minimum.analyse(evidence(roll(WITH)))).axes
    assert without_axes.get_legend() is None
    assert with_axes.get_legend() is not None
