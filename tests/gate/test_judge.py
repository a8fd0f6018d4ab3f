"""The gate's statistics, on simulated spreads, and what it concludes."""

import math

import numpy as np
import pytest
import scipy

from benchmarks.gate.judge import (
    CEILING,
    FASTER,
    FLOOR,
    MOVED,
    NO_VERDICT,
    NOISY,
    NOT_MEASURED,
    NOTHING,
    REGRESSION,
    SAME,
    SLOWER,
    Row,
    change_of,
    conclusion,
    judge_finding,
    judge_ratio,
    log_ratio,
)

RATIOS = 4


def simulated(shift: float, spread: float, rounds: int, generator) -> np.ndarray:
    """Logarithms [rounds, 3] of base, head and base again: a round of its own each, and a process of its own each."""
    logs = generator.normal(0, 0.3, (rounds, 1)) + generator.normal(0, spread, (rounds, 3))
    return logs + np.array([0, shift, 0])


def verdicts(shift: float, spread: float, gates: int, rounds: int = 5) -> list[str]:
    generator = np.random.default_rng(0)
    drawn = (simulated(shift, spread, rounds, generator) for _ in range(gates))
    return [judge_ratio("update", "s", logs, RATIOS).verdict for logs in drawn]


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.04])
def test_the_same_code_is_never_slower_in_a_thousand_ratios(spread):
    """One in a thousand gates of four ratios is allowed: a quarter of one is expected."""
    drawn = verdicts(0.0, spread, 1000)
    assert drawn.count(SLOWER) <= 2
    assert drawn.count(FASTER) <= 2


def test_spikes_in_a_few_processes_raise_the_threshold_and_no_alarm():
    generator = np.random.default_rng(1)
    slower = 0
    for _ in range(1000):
        logs = simulated(0.0, 0.01, 5, generator) + 0.3 * (generator.random((5, 3)) < 0.1)
        slower += judge_ratio("update", "s", logs, RATIOS).verdict == SLOWER
    assert slower <= 2


def test_fifteen_percent_are_found_every_time_at_the_spread_of_a_quiet_machine():
    assert set(verdicts(math.log(1.15), 0.015, 500)) == {SLOWER}


def test_an_improvement_is_reported_as_faster():
    assert set(verdicts(-math.log(1.15), 0.015, 500)) == {FASTER}


def test_a_change_below_the_floor_is_no_regression_whatever_its_confidence():
    assert set(verdicts(0.8 * FLOOR, 0.001, 100)) == {SAME}


def test_too_great_a_spread_is_not_called_the_same():
    drawn = verdicts(0.0, 0.2, 200)
    assert SAME not in drawn
    assert drawn.count(NOISY) >= 199


def test_the_same_code_exceeds_the_threshold_as_rarely_as_stated():
    """At a false alarm of 5% instead of a thousandth, and without a floor, so that there are enough: the coverage of
    the t quantile times the standard error is the nominal one."""
    generator = np.random.default_rng(2)
    changes = [change_of(simulated(0.0, 0.02, 5, generator), 1) for _ in range(4000)]
    critical = scipy.stats.t.isf(0.05, 9)
    exceeding = np.mean([change.change > critical * change.error for change in changes])
    assert {change.freedom for change in changes} == {9}
    assert abs(exceeding - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_the_error_is_that_of_least_squares_with_an_effect_of_each_round():
    """The slow way: a column for each round and one for head."""
    logs = simulated(0.1, 0.02, 6, np.random.default_rng(3))
    design = np.zeros((18, 7))
    for row in range(18):
        design[row, row // 3] = 1
        design[row, 6] = row % 3 == 1
    beta, residuals, *_ = np.linalg.lstsq(design, logs.ravel(), rcond=None)
    error = math.sqrt(residuals[0] / 11 * np.linalg.inv(design.T @ design)[6, 6])
    found = change_of(logs, RATIOS)
    assert found.freedom == 11
    assert found.change == pytest.approx(beta[6])
    assert found.error == pytest.approx(error)
    assert found.threshold == pytest.approx(max(FLOOR, scipy.stats.t.isf(0.001 / 4, 11) * error))


def test_the_confidence_of_a_verdict():
    logs = np.array([[0.0, 0.2, 0.01], [0.0, 0.21, -0.01], [0.0, 0.2, 0.0]])
    slower = judge_ratio("update", "s", logs, RATIOS)
    assert (slower.verdict, slower.confidence) == (SLOWER, ">99.9%")
    assert slower.change.startswith("+22.5% (+")
    near = judge_ratio("update", "s", np.array([[0, FLOOR, 0.02], [0, FLOOR, -0.02], [0, FLOOR, 0.02]]), RATIOS)
    assert near.verdict == SAME
    assert 50 < float(near.confidence.removesuffix("%")) < 99


def test_a_ratio_from_readings_is_that_of_the_fastest_quarter():
    readings = [(2.0, 1.0)] * 10 + [(9.0, 3.0)] * 30
    assert math.exp(log_ratio(readings)) == pytest.approx(2)


def entry(value=None, **more) -> dict:
    track = {"name": "loss", "unit": "nats", "relative": 1e-4, "absolute": 0.0}
    return track | ({} if value is None else {"value": value}) | more


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (entry(2.0), entry(2.0), SAME),
        (entry(2.0), entry(2.0001), SAME),
        (entry(2.0), entry(2.0003), MOVED),
        (entry(2.0), entry(1.9), MOVED),
        (entry(2.0), entry(math.nan), MOVED),
        (entry(2.0), entry(math.inf), MOVED),
        (entry(math.nan), entry(math.nan), NOT_MEASURED),
        (entry(2.0), entry(failed="ValueError: no"), NOT_MEASURED),
        (entry(failed="ValueError: no"), entry(2.0), NOT_MEASURED),
        (entry(2.0), entry(skipped="no CUDA device"), NOT_MEASURED),
        (entry(skipped="no CUDA device"), entry(skipped="no CUDA device"), "skipped"),
        (entry(0.0), entry(0.0), SAME),
        (entry(0.0), entry(1.0), MOVED),
        (entry(0.1, absolute=0.02), entry(0.119), SAME),
        (entry(0.1, absolute=0.02), entry(0.121), MOVED),
    ],
)
def test_a_finding_agrees_within_its_tolerance(base, head, verdict):
    assert judge_finding(base, head).verdict == verdict


def test_a_time_that_is_not_finite_is_not_measured():
    assert judge_ratio("update", "s", [(0, math.nan, 0), (0, 0, 0)], RATIOS).verdict == NOT_MEASURED


@pytest.mark.parametrize(
    ("verdicts_", "code", "line"),
    [
        ([SAME, SAME], NOTHING, "no regression"),
        ([SAME, "skipped"], NOTHING, "no regression"),
        ([SAME, FASTER], NOTHING, "no regression (faster: 1)"),
        ([SLOWER, MOVED, SAME], REGRESSION, "regression (moved: 1; slower: 0)"),
        ([SLOWER, FASTER], REGRESSION, "regression (slower: 0)"),
        ([SAME, NOT_MEASURED], NO_VERDICT, "could not measure (not measured: 1)"),
        ([NOISY, SLOWER], REGRESSION, "regression (slower: 1); beside that, too noisy: 0"),
    ],
)
def test_exit_code_and_line(verdicts_, code, line):
    rows = [Row(str(number), verdict=verdict) for number, verdict in enumerate(verdicts_)]
    assert conclusion(rows) == (code, line)


def test_the_ceiling_lies_above_the_floor():
    assert FLOOR < CEILING
