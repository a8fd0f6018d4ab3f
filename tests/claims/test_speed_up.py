"""The updates that momentum saves: from made-up trainings whose updates to the target are known."""

import numpy as np
import pandas as pd
import pytest

from suite.claims import momentum_speed_up
from suite.claims.momentum_speed_up import analyse, judge
from suite.evidence import Problem
from suite.evidence.tuned_trainings import last_iterate_protocols, protocols
from suite.experiments.cell import Scope
from suite.experiments.tuned_training import FINAL, TRIAL, TUNED_TRAINING
from suite.statistics import critical_batch_size
from suite.training.momentum_pair import WITH, WITHOUT
from tests.conftest import tiny
from tests.evidence import FACTS, evidence, without_rows


def trained(
    name: str,
    updates: dict[int, list[float]],
    trial_costs: dict[float, list[float]] | None = None,
    protocols_of=protocols,
):
    """Two evaluations of each seed whose log losses cross that of the target, 0.5, after `updates`, or never where
    these are infinite; and the trials of each rate, at every batch size."""
    protocol, trial_costs = protocols_of(FACTS)[name].key, trial_costs or {0.1: [5.0, 5.0], 0.2: [9.0, 9.0]}
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
    row, _ = judge(findings)
    assert row.effect.estimate == pytest.approx(6)
    assert row.effect == findings.speed_ups[16]
    assert (row.value_small, row.value_large) == pytest.approx((60, 10))
    assert findings.speed_ups[1].estimate == pytest.approx(1)
    assert findings.updates[WITHOUT].seeds == {1: pytest.approx((100, 110)), 16: pytest.approx((40, 80))}
    assert findings.updates[WITH].medians == pytest.approx({1: 105, 16: 10})
    assert "SGD needs 60.0 updates without momentum and 10.0 with λ = 0.9" in momentum_speed_up.answer(findings)
    assert momentum_speed_up.numbers(findings)["updates, without"].tolist() == ["105", "60.0"]
    assert momentum_speed_up.figure(findings) is not None


def both_readings(
    averaged: tuple[list[float], list[float]], last_iterate: tuple[list[float], list[float]]
) -> momentum_speed_up.Findings:
    """From the updates to the target at Large, without and with momentum, by each reading."""
    return analyse(
        evidence(
            *(
                trained(name, {16: updates}, protocols_of=protocols_of)
                for protocols_of, pair in ((protocols, averaged), (last_iterate_protocols, last_iterate))
                for name, updates in zip((WITHOUT, WITH), pair, strict=True)
            )
        )
    )


def test_where_large_is_not_trained_the_last_iterate_is_not_either():
    scope = Scope((1, 4, 16), (1, 4, 16), (1, 4), 3, 2, backends=("cpu",), training_backend="cpu")
    assert {cell.batch_size for cell in momentum_speed_up.cells(tiny(), scope)} == {1}


def test_the_last_iterate_is_a_second_reading():
    findings = both_readings(([60.0] * 6, [20.0] * 6), ([40.0] * 6, [80.0] * 6))
    headline, second = judge(findings)
    assert (headline.headline, second.headline) == (True, False)
    assert (headline.protocol.averaged, second.protocol.averaged) == (True, False)
    assert (headline.effect.estimate, second.effect.estimate) == pytest.approx((3, 0.5))
    assert (headline.verdict, second.verdict) == ("holds", "fails")
    assert (second.value_small, second.value_large) == pytest.approx((40, 80))
    assert [str(flag) for flag in headline.flags] == ["of the last iterate ×0.500 (×0.500 to ×0.500)"]
    assert second.flags == ()
    text = momentum_speed_up.explain(findings)
    assert "takes 0.500 (0.500 to 0.500) times as many updates" in text


def test_without_the_last_iterate_only_the_second_reading_lacks_a_verdict():
    findings = both_readings(([60.0] * 6, [20.0] * 6), ([40.0] * 6, [np.inf] * 6))
    headline, second = judge(findings)
    assert (headline.verdict, headline.flags) == ("holds", ())
    assert (second.verdict, second.status) == (None, "target_not_reached")
    assert "after the last update" not in momentum_speed_up.explain(findings)


def test_seeds_of_the_last_iterate_that_never_reach_the_target_are_flagged_in_its_row():
    findings = both_readings(([60.0] * 7, [20.0] * 7), ([40.0] * 6 + [np.inf], [20.0] * 7))
    headline, second = judge(findings)
    never = "1 of 7 seeds without momentum never reached the target and count as infinite"
    assert [str(flag) for flag in second.flags] == [never]
    assert never not in map(str, headline.flags)


@pytest.mark.parametrize("seeds", [3, 50])
def test_the_last_iterate_is_trained_at_large_alone_with_few_seeds(seeds):
    scope = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds, 2, backends=("cpu",), training_backend="cpu")
    cells = [cell for cell in momentum_speed_up.cells(tiny(), scope) if not cell.protocol.averaged]
    assert [cell.protocol for cell in cells] == list(last_iterate_protocols(tiny()).values())
    assert {(cell.batch_size, cell.repeats) for cell in cells} == {(16, min(seeds, 10))}


def test_it_fails_where_momentum_takes_more_updates():
    row, _ = judge(compared({16: [10, 11, 10, 9, 10, 11]}, {16: [40, 45, 42, 40, 41, 44]}))
    assert row.verdict == "fails"


def test_fewer_than_six_seeds_leave_the_verdict_undecided():
    row, _ = judge(compared({16: [40, 45, 42, 40, 41]}, {16: [10, 11, 10, 10, 9]}))
    assert row.verdict == "undecided"


def test_a_target_that_most_seeds_never_reach_leaves_no_verdict():
    findings = compared({16: [10, 11]}, {16: [np.inf, np.inf]})
    row, _ = judge(findings)
    assert (row.status, row.verdict) == ("target_not_reached", None)
    assert [str(flag) for flag in row.flags] == ["2 of 2 seeds with momentum: target not reached"]
    assert "2 of 2 seeds with momentum: target not reached" in momentum_speed_up.answer(findings)


@pytest.mark.parametrize(("name", "bound"), [(WITHOUT, "high"), (WITH, "low")])
def test_a_seed_that_never_reaches_the_target_counts_as_infinite(name, bound):
    """It moves the median like any other slow seed, and the interval away from the other optimizer."""
    slow, updates = [10.0, 11, 12, 13, 14, 15, np.inf], {WITHOUT: {16: [10.0] * 7}, WITH: {16: [10.0] * 7}}
    row, _ = judge(compared(*(updates | {name: {16: slow}}).values()))
    assert row.effect.n == 7
    assert row.effect.estimate == pytest.approx(1.3 if name == WITHOUT else 1 / 1.3)
    assert [str(flag) for flag in row.flags] == [
        f"1 of 7 seeds {name} momentum never reached the target and count as infinite"
    ]
    complete, _ = judge(compared(*(updates | {name: {16: [*slow[:6], 1e9]}}).values()))
    assert row.effect == complete.effect


def test_a_choice_of_the_rate_by_luck_widens_the_interval():
    without, with_ = {16: [40.0, 41, 42, 43, 44, 45]}, {16: [10.0, 10, 10, 10, 10, 10]}
    sure, _ = judge(compared(without, with_))
    lucky, _ = judge(compared(without, with_, trial_costs={0.1: [5.0, 9, 5, 9], 0.2: [8.0, 7, 8, 7]}))
    assert lucky.effect.estimate == sure.effect.estimate
    assert lucky.effect.high > sure.effect.high
    assert lucky.effect.low >= sure.effect.low


def test_without_trainings_there_is_a_reason_and_no_figure():
    frames = [
        without_rows(TUNED_TRAINING.name, "cpu", "unavailable", "not measured yet").assign(
            protocol=protocol.key, learning_rate=protocol.learning_rate
        )
        for protocol in (*protocols(FACTS).values(), *last_iterate_protocols(FACTS).values())
    ]
    findings = analyse(evidence(*frames))
    row, _ = judge(findings)
    assert (row.status, row.verdict) == ("unavailable", None)
    assert momentum_speed_up.figure(findings) is None
    assert momentum_speed_up.numbers(findings).empty
    assert momentum_speed_up.explain(findings) == ""
    assert "not measured yet" in momentum_speed_up.answer(findings)


def test_the_critical_batch_size_is_that_of_the_hyperbola_through_the_updates_without_momentum():
    sizes = np.array([1, 4, 16])
    without = {int(size): [20 * (1 + critical / size) for critical in (3, 4, 5, 7, 9, 12)] for size in sizes}
    findings = compared(without, {1: [10] * 6, 4: [10] * 6, 16: [10] * 6})
    critical = findings.updates[WITHOUT].critical_batch
    assert (critical.min_updates, critical.interval.estimate) == pytest.approx((20, 6), rel=1e-3)
    assert 3 <= critical.interval.low < 5
    assert 7 < critical.interval.high <= 12
    assert "The critical batch size without momentum is 6.00 (" in momentum_speed_up.explain(findings)


@pytest.mark.parametrize(
    ("slow", "trial_costs"),
    [
        ([25.0, 25.0, 25.0, 25.0, np.inf, np.inf], {}),
        ([25.0] * 6, {"trial_costs": {0.1: [5.0, 5.0], 0.2: [3.0, np.inf]}}),
    ],
    ids=["infinite", "zero"],
)
def test_draws_without_a_finite_median_at_a_batch_size_are_fitted_through_the_others(slow, trial_costs):
    """Draws are zero where the choice of the rate may cost infinitely many updates."""
    with_ = {1: [100.0] * 6, 2: [60.0] * 6, 4: [40.0] * 6, 16: slow}
    critical = compared(with_, with_, **trial_costs).updates[WITH].critical_batch
    assert critical.interval.estimate == pytest.approx(4, rel=1e-3)
    assert (critical.interval.low, critical.interval.high) == pytest.approx((4, 4), rel=1e-3)


def test_two_batch_sizes_give_no_critical_batch_size():
    findings = compared({1: [100, 110], 16: [40, 90]}, {1: [100, 110], 16: [10, 10]})
    problem = findings.updates[WITHOUT].critical_batch
    assert isinstance(problem, Problem)
    assert str(problem) == "fewer than three batch sizes were trained to the target"
    assert "critical" not in momentum_speed_up.explain(findings)


@pytest.mark.parametrize(("least", "critical"), [(17, 84), (3, 1.5), (100, 5000)])
def test_the_critical_batch_size_of_a_hyperbola(least, critical):
    sizes = np.array([1, 4, 16, 64, 256, 1024])
    assert critical_batch_size(sizes, least * (1 + critical / sizes)) == pytest.approx((least, critical), rel=1e-4)
