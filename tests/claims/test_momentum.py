"""The row on movement: recorded, judged and drawn."""

import pandas as pd
import pytest

from suite.claims import Check, momentum_sum
from suite.claims.momentum_sum import analyse, judge
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Scope
from suite.experiments.weighted_sum import last_weights, record_movements, relative_distances
from suite.report.sections import analysed
from suite.report.table import table, verdict_text
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
    assert (row.verdict, row.effect_text) == (Check.PASSED, "equal to the weighted sum to within rounding")
    assert findings.weights.max_deviation < 1e-3
    last = findings.weights.by_update[30]
    assert last == pytest.approx([0.9**age for age in reversed(range(30))], abs=1e-3)
    assert findings.distances[WITH].to_sum == pytest.approx(row.effect.estimate)
    assert row.value_small == pytest.approx(1, abs=1e-4)
    assert row.value_large == findings.distances[WITH].share_of_last_gradient < 0.9
    assert "is the weighted sum of all gradients so far, up to a" in momentum_sum.answer(findings)
    assert "powers of λ" in momentum_sum.explain(findings)
    by_movement, by_age, _ = momentum_sum.figure(findings).axes
    assert by_movement.get_ylabel() == "movement of update"
    assert by_age.get_xlabel() == "age of the gradient (updates)"


def made_up(errors: list[list[float]], bound: float, alone: float = 1.0) -> Evidence:
    """The `errors` of each seed's updates, the same without and with momentum."""
    rows = pd.DataFrame(
        {"seed": seed, "updates": update, "error": error}
        for seed, of_seed in enumerate(errors)
        for update, error in enumerate(of_seed, start=1)
    ).assign(stage="sum", status="ok", alone=alone, bound=bound)
    return Evidence.from_frames(FACTS, [described(cell, rows) for cell in CELLS])


def test_one_movement_outside_rounding_fails_the_check_in_every_view():
    evidence = made_up([[1e-6, 1e-6], [1e-6, 1e-3]], bound=2e-6)
    findings = analyse(evidence)
    (row,) = judge(findings)
    assert (row.verdict, row.effect_text) == (Check.FAILED, "not the weighted sum of all past gradients")
    assert "misses one by up to 500 times what rounding explains" in momentum_sum.answer(findings)
    assert momentum_sum.figure(findings) is None
    assert verdict_text(row) == "check failed"
    section = analysed(momentum_sum.claim, FACTS, {"momentum_sum": evidence}, [], frozenset())
    (line,) = table([section]).to_dict("records")
    assert (line["verdict"], line["status"]) == ("check failed", "ok")
    assert line["measure"].endswith("(check)")


def test_a_movement_that_is_not_finite_leaves_nothing_to_check():
    findings = analyse(made_up([[1e-6, 1e-6], [1e-6, float("nan")]], bound=2e-6))
    (row,) = judge(findings)
    assert (row.verdict, row.status) == (None, "unavailable")
    assert "a movement is zero or not finite" in momentum_sum.answer(findings)


def test_weights_of_another_momentum_fail_the_check():
    """Recorded at λ = 0.9, and compared with the weighted sum at 0.85."""
    cell = CELLS[1]
    recorded = record_movements(tiny(), blobs(), cell.protocol, cell.batch_size, replica=0, updates=30)
    rate, weights = cell.protocol.learning_rate, last_weights(cell.protocol.optimizer, 30)
    verdicts = {}
    for momentum in (0.9, 0.85):
        distances = relative_distances(recorded, weights, rate, momentum).assign(seed=0, stage="sum", status="ok")
        findings = analyse(Evidence.from_frames(FACTS, [described(cell, distances) for cell in CELLS]))
        verdicts[momentum] = judge(findings)[0].verdict
    assert verdicts == {0.9: Check.PASSED, 0.85: Check.FAILED}


def test_the_effect_is_the_mean_distance_and_the_shares_are_those_of_the_last_gradient():
    findings = analyse(made_up([[1e-6, 4e-6], [1e-6, 1e-6]], bound=8e-6, alone=0.9))
    (row,) = judge(findings)
    assert row.verdict is Check.PASSED
    assert row.effect.estimate == pytest.approx(1.75e-6)
    assert row.effect.n == 2
    assert row.value_large == pytest.approx(0.1)
    assert findings.distances[WITHOUT].rounding == pytest.approx(8e-6)
    assert momentum_sum.numbers(findings)["explained by float32 rounding"].tolist() == ["8.00e-6", "8.00e-6"]
    assert "The last gradient alone makes up 10% of the movement." in momentum_sum.answer(findings)
    assert "up to a relative difference of 1.75e-6" in momentum_sum.answer(findings)


def test_a_single_seed_is_enough_to_check():
    assert judge(analyse(made_up([[1e-6, 4e-6]], bound=8e-6)))[0].verdict is Check.PASSED


def test_a_last_gradient_against_the_movement_explains_none_of_it():
    (row,) = judge(analyse(made_up([[1e-6, 4e-6]], bound=8e-6, alone=1.2)))
    assert row.value_large == 0
