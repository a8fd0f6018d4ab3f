"""The rows on movement, plateaus and local minima: measured as planned, judged and drawn."""

import numpy as np
import pandas as pd
import pytest

from suite.cells import Scope
from suite.claims import Evidence, Facts, escapes, local_minimum, momentum_sum, plateau
from suite.report.sections import ALWAYS
from tests.conftest import blobs, tiny

SCOPE = Scope(
    (1, 4, 16),
    (1, 4, 16),
    training_batch_sizes=(1, 4, 16),
    seeds=3,
    processes=2,
    backends=("cpu",),
    training_backend="cpu",
)
FACTS = Facts.of(tiny(), blobs())


def described(cell, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: value for name, value in cell.describe().items() if name not in rows})


def evidence(rows: list[pd.DataFrame]) -> Evidence:
    joined = pd.concat(rows, ignore_index=True)
    return Evidence(FACTS, joined.reindex(columns=dict.fromkeys([*joined, *ALWAYS])))


def planned(module) -> Evidence:
    """As before anything is measured: every cell a row without a value."""
    cells = module.cells(tiny(), SCOPE)
    return evidence([pd.DataFrame([{**cell.describe(), "status": "unavailable", "reason": "no"}]) for cell in cells])


@pytest.mark.parametrize("module", [momentum_sum, plateau, local_minimum])
def test_what_is_not_measured_yet_has_no_verdict_and_still_a_page(module):
    found = planned(module)
    rows = module.judge(found)
    assert {row.status for row in rows} == {"unavailable"}
    assert sum(row.headline for row in rows) == 1
    module.draw(found)
    assert all(one.draw(found) is None for one in module.claim.illustrations)
    assert "no" in module.explain(found, rows)
    module.numbers(found)


def test_movements_of_a_training_are_the_weighted_sum():
    own = [cell for cell in momentum_sum.cells(tiny(), SCOPE) if cell.workload == "tiny"]
    found = evidence([described(cell, cell.measurement.measure(tiny(), blobs(), cell)) for cell in own])
    (row,) = momentum_sum.judge(found)
    assert row.verdict == "holds"
    assert set(momentum_sum.matched_effects(found)) == set(FACTS.learning_rates)
    assert "powers of λ" in momentum_sum.explain(found, [row])
    momentum_sum.draw(found)


def test_a_movement_outside_rounding_fails():
    own = [cell for cell in momentum_sum.cells(tiny(), SCOPE) if cell.measurement is momentum_sum.WEIGHTED_SUM]
    rows = pd.DataFrame({"seed": [0, 1, 2], "stage": "sum", "updates": 1, "status": "ok", "alone": 1.0})
    rows = rows.assign(error=[1e-3, 2e-3, 1.5e-3], bound=1e-6)
    (row,) = momentum_sum.judge(evidence([described(cell, rows) for cell in own]))
    assert row.verdict == "fails"
    assert row.value_large == pytest.approx(1.5e-3)


def left(cell, updates: int) -> pd.DataFrame:
    """Three starts at 1e-6 that grow evenly to 1e-3 in so many updates, one more or one less."""
    rows = [
        {"seed": seed, "updates": step, "distance": 1e-6 * 1e3 ** (step / most), "train_loss": 1.0, "status": "ok"}
        for seed, most in enumerate((updates - 1, updates, updates + 1))
        for step in range(most + 2)
    ]
    return described(cell, pd.DataFrame(rows))


def test_the_effect_on_the_saddle_is_the_ratio_of_updates():
    cells = dict(zip(plateau.PROTOCOLS, plateau.cells(tiny(), SCOPE), strict=True))
    counts = {plateau.PLAIN: 120, plateau.WITH: 40, plateau.MATCHED: 20}
    found = evidence([left(cells[which], count) for which, count in counts.items()])
    same, matched = plateau.judge(found)
    assert (same.verdict, matched.verdict) == ("holds", "fails")
    assert same.effect == pytest.approx(3, rel=0.01)
    assert matched.effect == pytest.approx(0.5, rel=0.01)
    assert "larger effective rate" in plateau.explain(found, [same, matched])
    plateau.draw(found)


def test_the_effect_on_the_ball_is_paired_by_start_and_told_apart_by_height():
    starts = np.array([-2.2, -2.0, -1.8, -1.6, -1.0, -0.5])
    ends = {local_minimum.PLAIN: [0, 0, 0, 0, 0, 0], local_minimum.WITH: [1, 1, 1, 1, 0, 0]}
    frames = []
    for cell in local_minimum.cells(tiny(), SCOPE):
        if cell.measurement is local_minimum.ENDS:
            which = local_minimum.WITH if cell.protocol.optimizer.momentum else local_minimum.PLAIN
            rows = pd.DataFrame({"seed": range(6), "start": starts, "crossed": ends[which], "status": "ok"})
            frames.append(described(cell, rows))
    rows = local_minimum.judge(evidence(frames))
    assert [row.effect for row in rows] == [1, 0, 1, 0]
    assert [row.verdict for row in rows] == ["holds", "undecided", "holds", "undecided"]
    assert [row.headline for row in rows] == [True, False, False, False]
    assert [row.seeds for row in rows] == [4, 2, 4, 2]


def test_escapes_that_took_too_long_leave_no_mean():
    """Of two batch sizes, one whose slowest ball did not escape: the mean of the others would be too low."""
    frames = []
    for cell in local_minimum.cells(tiny(), SCOPE):
        if cell.measurement is escapes.ESCAPE_TIMES and cell.batch_size < 4:
            rows = pd.DataFrame({"seed": range(3), "updates": [10.0, 20.0, 30.0], "status": "ok"})
            if cell.batch_size == 2:
                rows.loc[2, ["updates", "status"]] = [np.inf, "target_not_reached"]
            frames.append(described(cell, rows))
    found = evidence(frames)
    table = escapes.found(found)
    assert table["batch_size"].tolist() == [1]
    assert table["updates"].iloc[0].estimate == pytest.approx(20)
    said = local_minimum.explain(found, local_minimum.judge(found))
    assert "takes 20 updates (" in said
    assert "has no mean where some did not (1 of 3 seeds at batch size 2: target not reached)." in said


@pytest.mark.filterwarnings("error")
def test_a_figure_without_balls_is_drawn_without_a_warning():
    """As after a run that was killed: one cell is stored."""
    (cell,) = [cell for cell in local_minimum.cells(tiny(), SCOPE) if cell.measurement is escapes.ESCAPE_TIMES][:1]
    rows = pd.DataFrame({"seed": range(3), "updates": [10.0, 20.0, 30.0], "status": "ok"})
    balls, _, times = local_minimum.draw(evidence([described(cell, rows)])).axes
    assert balls.get_legend() is None
    assert times.get_legend() is not None
