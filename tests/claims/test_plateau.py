import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from suite.claims import plateau
from suite.claims.plateau import MATCHED, PROTOCOLS, DoesNotStop
from suite.evidence import Problem
from suite.evidence.toy import Toy, where_momentum_is_measured
from suite.optimizers import Optimizer
from suite.status import Status
from suite.training.momentum_pair import WITH, WITHOUT
from tests.conftest import tiny
from tests.evidence import FACTS, evidence

CELLS = dict(zip(PROTOCOLS, plateau.cells(tiny(), scope=None), strict=True))


def departures(name: str, updates: int) -> pd.DataFrame:
    """Three starts at 1e-6 whose distance grows evenly to 1e-3 within `updates` - 1, `updates` and `updates` + 1."""
    rows = [
        {"seed": seed, "updates": step, "distance": 1e-6 * 1e3 ** (step / last), "train_loss": 1.0, "status": "ok"}
        for seed, last in enumerate((updates - 1, updates, updates + 1))
        for step in range(last + 2)
    ]
    return pd.DataFrame(rows).assign(**CELLS[name].describe())


def test_without_a_measurement_there_is_no_verdict_and_the_reason_is_given():
    absent = [cell.describe() | {"status": "unavailable", "reason": "no device"} for cell in CELLS.values()]
    findings = plateau.analyse(evidence(pd.DataFrame(absent)))
    rows = plateau.judge(findings)
    assert {row.status for row in rows} == {"unavailable"}
    assert [row.headline for row in rows] == [True, False]
    assert plateau.figure(findings) is None
    assert "no device" in plateau.answer(findings)
    assert plateau.explain(findings) == ""
    assert plateau.numbers(findings).empty


def test_the_effect_is_the_ratio_of_updates_to_leave_the_saddle():
    counts = {WITHOUT: 120, WITH: 40, MATCHED: 20}
    findings = plateau.analyse(evidence(*(departures(name, count) for name, count in counts.items())))
    same, matched = plateau.judge(findings)
    assert (same.verdict, matched.verdict) == ("holds", "fails")
    assert same.effect.estimate == pytest.approx(3, rel=0.01)
    assert matched.effect.estimate == pytest.approx(0.5, rel=0.01)
    assert same.effect.n == matched.effect.n == 3
    assert (same.headline, matched.headline) == (True, False)
    assert same.value_small == pytest.approx((119 * 120 * 121) ** (1 / 3))
    assert same.effect_text.startswith("leaves later: ×3.00 (")
    assert same.flags == (Toy("tiny", "SGD"), DoesNotStop(sooner_at_matched_rate=True))
    assert matched.flags == (Toy("tiny", "SGD"),)
    assert "does not stop: it leaves too, and sooner at the matched rate" in str(same.flags[1])
    assert "it only leaves later: after 120 updates, against 40.0 with momentum" in plateau.answer(findings)
    assert "What momentum does on tiny itself is in two other rows" in plateau.explain(findings)
    assert "as a higher learning rate would" in plateau.explain(findings)
    assert len(plateau.figure(findings).axes[1].lines) == 3 * 3 + 3 + 1 + 1  # starts, closed forms, threshold, label
    assert plateau.numbers(findings)["updates, measured"].tolist() == ["120", "40.0", "20.0"]


def test_a_departure_that_is_not_sooner_at_the_matched_rate_is_not_called_so():
    counts = {WITHOUT: 120, WITH: 40, MATCHED: 60}
    same, _ = plateau.judge(plateau.analyse(evidence(*(departures(*pair) for pair in counts.items()))))
    assert str(same.flags[1]) == "without momentum SGD does not stop: it leaves too"


def test_the_closed_form_starts_where_the_trainings_start():
    """Without momentum every update multiplies the distance by 1 − η h = 1.02."""
    findings = plateau.analyse(evidence(departures(WITHOUT, 120)))
    departure = findings.departures[WITHOUT]
    assert departure.growth == pytest.approx(1.02)
    assert departure.closed_form == pytest.approx(math.log(1e3) / math.log(1.02))
    assert set(findings.departures) == {WITHOUT}
    assert [len(course.distances) for course in departure.courses] == [121, 122, 123]


def test_a_start_that_does_not_leave_the_saddle_leaves_no_verdict():
    stuck = departures(WITH, 40)
    is_last = stuck["seed"] == 2
    stuck = stuck[~(is_last & (stuck["updates"] > 30))].assign(
        status=lambda rows: rows["seed"].map({2: "target_not_reached"}).fillna("ok")
    )
    findings = plateau.analyse(evidence(departures(WITHOUT, 120), stuck, departures(MATCHED, 20)))
    problem = Problem(Status.TARGET_NOT_REACHED, replicas=1, all_replicas=3, where="with momentum")
    assert findings.same_rate == findings.matched_rate == problem
    assert {row.status for row in plateau.judge(findings)} == {"target_not_reached"}
    assert "1 of 3 seeds with momentum: target not reached" in plateau.answer(findings)
    assert findings.departures[WITH].updates == pytest.approx(math.sqrt(39 * 40))


def test_a_workload_with_another_optimizer_is_told_apart_from_the_toy():
    assert Toy("tiny", "SGD").sentence == ""
    assert "tiny itself is trained with AdamW" in Toy("tiny", "AdamW").sentence
    assert str(Toy("tiny", "AdamW")) == "a toy, trained with SGD"


def test_the_toys_point_to_the_rows_about_momentum_where_the_workload_has_them():
    assert "“Momentum saves updates”" in where_momentum_is_measured(FACTS)
    without = replace(FACTS, optimizer=Optimizer.of(torch.optim.Adadelta))
    assert where_momentum_is_measured(without) == ""
