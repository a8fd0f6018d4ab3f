"""The row on movement: recorded, judged and drawn."""

import pandas as pd
import pytest

from suite.claims import momentum_sum
from suite.claims.momentum_sum import analyse, judge
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Scope
from suite.training.momentum_pair import WITH, WITHOUT
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
CELLS = momentum_sum.cells(tiny(), SCOPE)


def described(cell, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: value for name, value in cell.describe().items() if name not in rows})


def test_a_movement_that_is_not_recorded_yet_has_no_verdict_and_a_reason():
    """As before anything is measured: every cell is a row without a value."""
    frames = [pd.DataFrame([{**cell.describe(), "status": "unavailable", "reason": "no time"}]) for cell in CELLS]
    findings = analyse(Evidence.from_frames(FACTS, frames))
    (row,) = judge(findings)
    assert (row.status, row.verdict, row.headline, row.effect_text) == ("unavailable", None, True, "")
    assert momentum_sum.figure(findings) is None
    assert "no time" in momentum_sum.answer(findings)
    assert momentum_sum.explain(findings) == ""
    assert momentum_sum.numbers(findings).empty


def test_movements_of_a_training_are_the_weighted_sum():
    frames = [described(cell, cell.measurement.measure(tiny(), blobs(), cell)) for cell in CELLS]
    findings = analyse(Evidence.from_frames(FACTS, frames))
    (row,) = judge(findings)
    assert (row.verdict, row.effect_text) == ("holds", "equal to within rounding")
    assert findings.weights.max_deviation < 1e-3
    last = findings.weights.by_update[30]
    assert last == pytest.approx([0.9**age for age in reversed(range(30))], abs=1e-3)
    assert findings.distances[WITH].to_sum == row.value_large
    assert findings.distances[WITH].to_last_gradient > 0.1
    assert "equals the weighted sum of all past gradients to within rounding" in momentum_sum.answer(findings)
    assert "powers of λ" in momentum_sum.explain(findings)
    by_movement, by_age, _ = momentum_sum.figure(findings).axes
    assert by_movement.get_ylabel() == "movement of update"
    assert by_age.get_xlabel() == "age of the gradient (updates)"


def made_up(errors: list[list[float]], bound: float) -> momentum_sum.Findings:
    """The `errors` of each seed's updates, the same without and with momentum."""
    rows = pd.DataFrame(
        {"seed": seed, "updates": update, "error": error}
        for seed, of_seed in enumerate(errors)
        for update, error in enumerate(of_seed, start=1)
    ).assign(stage="sum", status="ok", alone=1.0, bound=bound)
    return analyse(Evidence.from_frames(FACTS, [described(cell, rows) for cell in CELLS]))


def test_a_movement_outside_rounding_fails():
    findings = made_up([[1e-3], [2e-3], [1.5e-3]], bound=1e-6)
    (row,) = judge(findings)
    assert (row.verdict, row.effect_text) == ("fails", "")
    assert row.value_large == pytest.approx(1.5e-3)
    assert "differs from the weighted sum" in momentum_sum.answer(findings)
    assert momentum_sum.figure(findings) is None


def test_the_effect_is_the_geometric_mean_of_the_worst_update_of_each_seed():
    findings = made_up([[1e-6, 4e-6], [1e-6, 1e-6]], bound=8e-6)
    (row,) = judge(findings)
    assert row.effect.estimate == pytest.approx(4)
    assert row.effect.n == 2
    assert row.value_large == pytest.approx(1.75e-6)
    assert findings.distances[WITHOUT].rounding == pytest.approx(8e-6)
    assert momentum_sum.numbers(findings)["explained by float32 rounding"].tolist() == ["8.00e-6", "8.00e-6"]


def test_a_single_seed_is_undecided():
    findings = made_up([[1e-6, 4e-6]], bound=8e-6)
    (row,) = judge(findings)
    assert (row.verdict, row.effect_text) == ("undecided", "")
    assert "may differ" in momentum_sum.answer(findings)
