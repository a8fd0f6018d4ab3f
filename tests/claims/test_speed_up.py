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


def trained(name: str, updates: dict[int, list[float]], status: str = "ok") -> pd.DataFrame:
    """Two evaluations of each seed whose log losses cross that of the target, 0.5, after `updates`; and a trial."""
    lines = [
        {"batch_size": size, "seed": seed, "stage": stage, "status": status, "learning_rate": 0.1}
        | {"updates": made, "epoch": made, "train_loss": loss, "test_score": 0.9}
        for size, crossings in updates.items()
        for seed, crossing in enumerate(crossings)
        for stage, factor in ((FINAL, 1), (TRIAL, 7))
        for made, loss in ((factor * (crossing - 1), 1.0), (factor * (crossing + 1), 0.25))
    ]
    protocol = protocols(FACTS)[name].key
    return pd.DataFrame(lines).assign(measurement=TUNED_TRAINING.name, protocol=protocol)


def compared(without: dict, with_: dict, **fields) -> momentum_speed_up.Findings:
    return analyse(evidence(trained(WITHOUT, without), trained(WITH, with_, **fields)))


def test_the_effect_is_the_geometric_mean_over_paired_seeds():
    findings = compared({1: [100, 110], 16: [40, 90]}, {1: [100, 110], 16: [10, 10]})
    (row,) = judge(findings)
    assert row.effect.estimate == pytest.approx(6)
    assert row.effect == findings.speed_ups[16]
    assert (row.value_small, row.value_large) == pytest.approx((60, 10))
    assert findings.speed_ups[1].estimate == pytest.approx(1)
    assert findings.updates[WITHOUT].seeds == {1: pytest.approx((100, 110)), 16: pytest.approx((40, 90))}
    assert findings.updates[WITH].means == pytest.approx({1: 11000**0.5, 16: 10})
    assert "SGD needs 60.0 updates without momentum and 10.0 with λ = 0.9" in momentum_speed_up.answer(findings)
    assert momentum_speed_up.numbers(findings)["updates, without"].tolist() == ["105", "60.0"]
    assert momentum_speed_up.figure(findings) is not None


def test_it_fails_where_momentum_takes_more_updates():
    (row,) = judge(compared({16: [10, 11, 10]}, {16: [40, 45, 42]}))
    assert row.verdict == "fails"


def test_a_target_not_reached_leaves_no_verdict():
    findings = compared({16: [10, 11]}, {16: [40, 45]}, status="target_not_reached")
    (row,) = judge(findings)
    assert (row.status, row.verdict) == ("target_not_reached", None)
    assert [str(flag) for flag in row.flags] == ["2 of 2 seeds with momentum: target not reached"]
    assert "2 of 2 seeds with momentum: target not reached" in momentum_speed_up.answer(findings)


def test_a_tenth_of_the_seeds_that_miss_the_target_without_momentum_is_left_out():
    without, with_ = trained(WITHOUT, {16: [40] * 9 + [42, 500]}), trained(WITH, {16: [10] * 10 + [12]})
    without.loc[without["seed"] == 10, "status"] = "target_not_reached"
    (row,) = judge(analyse(evidence(without, with_)))
    assert row.verdict == "holds"
    assert row.effect.n == 10
    assert row.effect.estimate == pytest.approx(4, rel=0.01)
    assert [str(flag) for flag in row.flags] == ["1 of 11 seeds without momentum: target not reached, left out"]


def test_more_than_a_tenth_of_the_seeds_that_miss_the_target_leaves_no_verdict():
    without, with_ = trained(WITHOUT, {16: [40] * 8 + [500]}), trained(WITH, {16: [10] * 9})
    without.loc[without["seed"] == 8, "status"] = "target_not_reached"
    (row,) = judge(analyse(evidence(without, with_)))
    assert (row.status, row.verdict) == ("target_not_reached", None)
    assert [str(flag) for flag in row.flags] == ["1 of 9 seeds without momentum: target not reached"]


def test_seeds_that_miss_the_target_with_momentum_are_never_left_out():
    without, with_ = trained(WITHOUT, {16: [40] * 11}), trained(WITH, {16: [10] * 11})
    with_.loc[with_["seed"] == 10, "status"] = "target_not_reached"
    (row,) = judge(analyse(evidence(without, with_)))
    assert (row.status, row.verdict) == ("target_not_reached", None)


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
    without = {int(size): [20 * (1 + critical / size) for critical in (3, 12)] for size in sizes}
    findings = compared(without, {1: [10, 10], 4: [10, 10], 16: [10, 10]})
    assert findings.critical_batch_size.estimate == pytest.approx(6, rel=1e-3)
    assert findings.critical_batch_size.n == 2
    means = [np.sqrt(np.prod(without[int(size)])) for size in sizes]
    hyperbola = findings.updates[WITHOUT].hyperbola
    assert (hyperbola.min_updates, hyperbola.critical_batch_size) == pytest.approx(critical_batch_size(sizes, means))
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
