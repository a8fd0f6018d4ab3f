import math

import numpy as np
import pandas as pd
import pytest

from suite.claims import sharpness
from suite.claims.sharpness import EIGENVALUE, NAMES, OtherMeasures
from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.status import Status
from tests.conftest import tiny
from tests.evidence import evidence


def minima(small: list[float], large: list[float], status: str = "ok", **at_large: list[float]) -> pd.DataFrame:
    """Sharpness of each seed at Small and Large: all four measures alike, except those in `at_large`."""
    frames = []
    for batch_size, values in ((1, small), (16, large)):
        measures = dict.fromkeys(NAMES, values) | (at_large if batch_size == 16 else {})
        frames.append(pd.DataFrame(measures).assign(seed=range(len(values)), batch_size=batch_size, status=status))
    rows = pd.concat(frames)
    return rows.assign(measurement="sharpness", protocol="p", updates=9, train_loss=0.5)


def findings(rows: pd.DataFrame) -> sharpness.Findings:
    return sharpness.analyse(evidence(rows))


def test_a_large_batch_at_a_sharper_point_holds():
    analysed = findings(minima([10, 20, 40], [20, 44, 80]))
    (row,) = sharpness.judge(analysed)
    assert row.verdict == "holds"
    assert math.isclose(row.effect.estimate, (2 * 2.2 * 2) ** (1 / 3))
    assert math.isclose(row.value_small, 20)
    assert math.isclose(row.value_large, (20 * 44 * 80) ** (1 / 3))
    assert row.effect.n == 3
    assert analysed.sharper_seeds == 3
    assert analysed.losses == (0.5, 0.5)
    assert sharpness.answer(analysed) == (
        "By 4 of 4 measures the large batch ends at the sharper point, measured where training reached loss 0.5: its "
        "largest Hessian eigenvalue is 2.06 times that of the small batch."
    )
    assert "The largest eigenvalue is higher with the large batch in 3 of 3 seeds." in sharpness.explain(analysed)


def test_a_large_batch_at_a_flatter_point_fails():
    analysed = findings(minima([10, 20, 40], [5, 9, 20]))
    assert sharpness.judge(analysed)[0].verdict == "fails"
    assert "flatter" in sharpness.answer(analysed)


def test_seeds_that_disagree_are_undecided():
    analysed = findings(minima([10, 20, 40], [5, 44, 50]))
    assert sharpness.judge(analysed)[0].verdict == "undecided"
    assert "undecided" in sharpness.answer(analysed)
    assert "The largest eigenvalue is higher with the large batch in 2 of 3 seeds." in sharpness.explain(analysed)


def test_a_target_that_was_not_reached_leaves_no_verdict():
    rows = minima([10, 20, 40], [20, 44, 80])
    rows.loc[(rows["batch_size"] == 16) & (rows["seed"] == 1), "status"] = "target_not_reached"
    analysed = findings(rows)
    (row,) = sharpness.judge(analysed)
    problem = Problem(Status.TARGET_NOT_REACHED, replicas=1, all_replicas=3, where="at batch size 16")
    assert (row.verdict, row.status, row.flags) == (None, "target_not_reached", (problem,))
    assert "1 of 3 seeds at batch size 16" in sharpness.answer(analysed)
    assert sharpness.explain(analysed) == ""
    assert (
        len(sharpness.figure(analysed).axes[0].lines) == 2 + 2
    )  # two seeds that have both, and the dots of each size


def test_one_size_alone_is_drawn_all_the_same():
    rows = minima([10, 20, 40], [20, 44, 80])
    rows.loc[rows["batch_size"] == 16, "status"] = "target_not_reached"
    analysed = findings(rows)
    assert len(sharpness.figure(analysed).axes[0].lines) == 2
    assert [measure.small_median for measure in analysed.measures.values()] == [20.0] * 4
    assert sharpness.numbers(analysed)["Small, median"].tolist() == ["20.0"] * 4
    assert sharpness.numbers(analysed)["Large, median"].tolist() == ["–"] * 4


def test_without_any_value_there_is_no_figure_and_the_reason_is_given():
    failed = {"measurement": "sharpness", "status": "out_of_memory", "reason": "too much", "protocol": "p"}
    analysed = findings(pd.DataFrame([failed | {"batch_size": size} for size in (1, 16)]))
    (row,) = sharpness.judge(analysed)
    assert (row.verdict, row.status) == (None, "out_of_memory")
    assert sharpness.figure(analysed) is None
    assert "too much" in sharpness.answer(analysed)


def test_each_measure_has_its_own_ratio_and_verdict():
    analysed = findings(minima([10, 20, 40], [20, 44, 80], invariant=[11, 19, 40], keskar=[5, 9, 20]))
    ratios = {name: measure.large_over_small.estimate for name, measure in analysed.measures.items()}
    assert math.isclose(ratios[EIGENVALUE], (2 * 2.2 * 2) ** (1 / 3))
    assert math.isclose(ratios["invariant"], (1.1 * 0.95) ** (1 / 3))
    (row,) = sharpness.judge(analysed)
    assert row.flags == (OtherMeasures({"trace": "holds", "keskar": "fails", "invariant": "undecided"}),)
    assert str(row.flags[0]).endswith(f"{NAMES['invariant']} undecided")
    assert "By 2 of 4 measures" in sharpness.answer(analysed)
    assert "no single meaning" in sharpness.explain(analysed)


def test_the_table_shows_the_ratio_of_each_measure():
    analysed = findings(minima([10, 20, 40], [20, 40, 80], invariant=[10, 20, 40]))
    assert math.isclose(analysed.measures[EIGENVALUE].large_over_small.estimate, 2)
    assert math.isclose(analysed.measures["invariant"].large_over_small.estimate, 1)
    assert analysed.measures["invariant"].verdict == "undecided"
    assert sharpness.numbers(analysed)["Large / Small"].tolist() == ["2.00", "2.00", "2.00", "1.00"]


@pytest.mark.parametrize("trace", [-3.0, 0.0, np.nan])
def test_a_trace_that_is_not_positive_has_no_ratio(trace):
    analysed = findings(minima([10, 20, 40], [20, 40, 80], trace=[trace, 40, 80]))
    assert analysed.measures["trace"].large_over_small.n == 2


def test_a_batch_size_that_is_not_trained_has_no_cell():
    small_alone = Scope((1, 4), (1, 4), (1, 4), 9, 9, ("cpu",), "cpu")
    (cell,) = sharpness.cells(tiny(), small_alone)
    assert cell.batch_size == 1
