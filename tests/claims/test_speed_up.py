"""The updates that momentum saves: from made-up trainings whose updates to the target are known."""

import numpy as np
import pandas as pd
import pytest

from suite.claims import momentum_speed_up
from suite.claims.momentum_speed_up import analyse, judge, protocols
from suite.experiments.tuned_training import FINAL, TRIAL, TUNED_TRAINING
from suite.statistics import critical_batch_size
from suite.training.momentum_pair import WITH, WITHOUT
from tests.evidence import FACTS, evidence, without_rows


def trained(name: str, updates: dict[int, list[float]], trial_costs: dict[float, list[float]] | None = None):
    """Two evaluations of each seed whose log losses cross that of the target, 0.5, after `updates`, or never where
    these are infinite; and the trials of each rate, at every batch size."""
    protocol, trial_costs = protocols(FACTS)[name].key, trial_costs or {0.1: [5.0, 5.0], 0.2: [9.0, 9.0]}
    finals = [
        {"batch_size": size, "seed": seed, "stage": FINAL, "learning_rate": 0.1, "test_score": 0.9}
        | {"updates": made, "epoch": made, "train_loss": loss}
        | {"status": "ok" if np.isfinite(crossing) else "target_not_reached"}
        for size, crossings in updates.items()
        for seed, crossing in enumerate(crossings)
        for made, loss in ([(crossing - 1, 1.0), (crossing + 1, 0.25)] if np.isfinite(crossing) else [(99, 0.9)])
    ]
    trials = [
        {"batch_size": size, "seed": seed, "stage": TRIAL, "learning_rate": rate, "status": "ok", "train_loss": 0.5}
        | {"updates": 7, "cost_updates": cost, "cost_loss": 0.5, "fine": True}
        for size in updates
        for rate, costs in trial_costs.items()
        for seed, cost in enumerate(costs)
    ]
    return pd.DataFrame([*finals, *trials]).assign(measurement=TUNED_TRAINING.name, protocol=protocol)


def compared(without: dict, with_: dict, **fields) -> momentum_speed_up.Findings:
    return analyse(evidence(trained(WITHOUT, without), trained(WITH, with_, **fields)))


def test_the_effect_is_the_ratio_of_medians():
    findings = compared({1: [100, 110], 16: [40, 80]}, {1: [100, 110], 16: [10, 10]})
    (row,) = judge(findings)
    assert row.effect.estimate == pytest.approx(6)
    assert row.effect == findings.speed_ups[16]
    assert (row.value_small, row.value_large) == pytest.approx((60, 10))
    assert findings.speed_ups[1].estimate == pytest.approx(1)
    assert findings.updates[WITHOUT].seeds == {1: pytest.approx((100, 110)), 16: pytest.approx((40, 80))}
    assert findings.updates[WITH].medians == pytest.approx({1: 105, 16: 10})
    assert "SGD needs 60.0 updates without momentum and 10.0 with λ = 0.9" in momentum_speed_up.answer(findings)
    assert momentum_speed_up.numbers(findings)["updates, without"].tolist() == ["105", "60.0"]
    assert momentum_speed_up.figure(findings) is not None


def test_it_fails_where_momentum_takes_more_updates():
    (row,) = judge(compared({16: [10, 11, 10, 9, 10, 11]}, {16: [40, 45, 42, 40, 41, 44]}))
    assert row.verdict == "fails"


def test_fewer_than_six_seeds_leave_the_verdict_undecided():
    (row,) = judge(compared({16: [40, 45, 42, 40, 41]}, {16: [10, 11, 10, 10, 9]}))
    assert row.verdict == "undecided"


def test_a_target_that_most_seeds_never_reach_leaves_no_verdict():
    findings = compared({16: [10, 11]}, {16: [np.inf, np.inf]})
    (row,) = judge(findings)
    assert (row.status, row.verdict) == ("target_not_reached", None)
    assert [str(flag) for flag in row.flags] == ["2 of 2 seeds with momentum: target not reached"]
    assert "2 of 2 seeds with momentum: target not reached" in momentum_speed_up.answer(findings)


@pytest.mark.parametrize(("name", "bound"), [(WITHOUT, "high"), (WITH, "low")])
def test_a_seed_that_never_reaches_the_target_counts_as_infinite(name, bound):
    """It moves the median like any other slow seed, and the interval away from the other optimizer."""
    slow, updates = [10.0, 11, 12, 13, 14, 15, np.inf], {WITHOUT: {16: [10.0] * 7}, WITH: {16: [10.0] * 7}}
    (row,) = judge(compared(*(updates | {name: {16: slow}}).values()))
    assert row.effect.n == 7
    assert row.effect.estimate == pytest.approx(1.3 if name == WITHOUT else 1 / 1.3)
    assert [str(flag) for flag in row.flags] == [
        f"1 of 7 seeds {name} momentum never reached the target and count as infinite"
    ]
    (complete,) = judge(compared(*(updates | {name: {16: [*slow[:6], 1e9]}}).values()))
    assert row.effect == complete.effect


def test_a_choice_of_the_rate_by_luck_widens_the_interval():
    without, with_ = {16: [40.0, 41, 42, 43, 44, 45]}, {16: [10.0, 10, 10, 10, 10, 10]}
    (sure,) = judge(compared(without, with_))
    (lucky,) = judge(compared(without, with_, trial_costs={0.1: [5.0, 9, 5, 9], 0.2: [8.0, 7, 8, 7]}))
    assert lucky.effect.estimate == sure.effect.estimate
    assert lucky.effect.high > sure.effect.high
    assert lucky.effect.low >= sure.effect.low


def test_without_trainings_there_is_a_reason_and_no_figure():
    frames = [
        without_rows(TUNED_TRAINING.name, "cpu", "unavailable", "not measured yet").assign(
            protocol=protocol.key, learning_rate=protocol.learning_rate
        )
        for protocol in protocols(FACTS).values()
    ]
    findings = analyse(evidence(*frames))
    (row,) = judge(findings)
    assert (row.status, row.verdict) == ("unavailable", None)
    assert momentum_speed_up.figure(findings) is None
    assert momentum_speed_up.numbers(findings).empty
    assert momentum_speed_up.explain(findings) == ""
    assert "not measured yet" in momentum_speed_up.answer(findings)


def test_the_critical_batch_size_is_that_of_the_hyperbola_through_the_updates_without_momentum():
    sizes = np.array([1, 4, 16])
    without = {int(size): [20 * (1 + critical / size) for critical in (3, 4, 5, 7, 9, 12)] for size in sizes}
    findings = compared(without, {1: [10] * 6, 4: [10] * 6, 16: [10] * 6})
    assert findings.critical_batch_size.estimate == pytest.approx(6, rel=1e-3)
    assert 3 <= findings.critical_batch_size.low < 5
    assert 7 < findings.critical_batch_size.high <= 12
    hyperbola = findings.updates[WITHOUT].hyperbola
    assert (hyperbola.min_updates, hyperbola.critical_batch_size) == pytest.approx((20, 6), rel=1e-3)
    assert "critical batch size" in momentum_speed_up.explain(findings)


def test_two_batch_sizes_give_no_critical_batch_size():
    findings = compared({1: [100, 110], 16: [40, 90]}, {1: [100, 110], 16: [10, 10]})
    assert findings.critical_batch_size is None
    assert findings.updates[WITHOUT].hyperbola is None
    assert "critical" not in momentum_speed_up.explain(findings)


@pytest.mark.parametrize(("least", "critical"), [(17, 84), (3, 1.5), (100, 5000)])
def test_the_critical_batch_size_of_a_hyperbola(least, critical):
    sizes = np.array([1, 4, 16, 64, 256, 1024])
    assert critical_batch_size(sizes, least * (1 + critical / sizes)) == pytest.approx((least, critical), rel=1e-4)
