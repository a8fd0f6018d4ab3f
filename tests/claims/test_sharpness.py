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
    """Sharpness of each seed at Small and Large at the fitted loss of 0.0625: all four measures alike, except those
    in `at_large`. A shorter training of each ends at a loss of 1, at twice the sharpness."""
    frames = []
    for batch_size, values in ((1, small), (16, large)):
        measures = pd.DataFrame(dict.fromkeys(NAMES, values) | (at_large if batch_size == 16 else {}))
        for updates, loss, factor in ((9, 1.0, 2), (99, 0.0625, 1)):
            of_length = (factor * measures).assign(seed=range(len(values)), updates=updates, train_loss=loss)
            frames.append(of_length.assign(batch_size=batch_size, status=status))
    return pd.concat(frames, ignore_index=True).assign(measurement="sharpness", protocol="p")


def never_fitted(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` without the long trainings at Large."""
    return rows[(rows["batch_size"] != 16) | (rows["updates"] != 99)]


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
    assert sharpness.answer(analysed) == (
        "Annealed to a training loss of 0.0625, the large batch ends at the sharper point: its largest Hessian "
        "eigenvalue is 2.06 times that of the small batch. Of 3 other measures, the trace of the Hessian, Keskar's "
        "sharpness and the rescaling-invariant eigenvalue also show the large batch as significantly sharper (with "
        "Holm's correction)."
    )
    assert "The largest eigenvalue is higher with the large batch in 3 of 3 seeds." in sharpness.explain(analysed)


def test_a_large_batch_at_a_flatter_point_fails():
    analysed = findings(minima([10, 20, 40], [5, 9, 20]))
    assert sharpness.judge(analysed)[0].verdict == "fails"
    assert "flatter" in sharpness.answer(analysed)


def test_seeds_that_disagree_are_undecided():
    analysed = findings(minima([10, 20, 40], [5, 44, 50]))
    assert sharpness.judge(analysed)[0].verdict == "undecided"
    assert "it is undecided" in sharpness.answer(analysed)
    assert "The largest eigenvalue is higher with the large batch in 2 of 3 seeds." in sharpness.explain(analysed)


def test_a_batch_size_that_never_fits_leaves_no_verdict():
    analysed = findings(never_fitted(minima([10, 20, 40], [20, 44, 80])))
    (row,) = sharpness.judge(analysed)
    problem = Problem(Status.TARGET_NOT_REACHED, where="at batch size 16")
    assert (row.verdict, row.status, row.flags) == (None, "target_not_reached", (problem,))
    assert "target not reached at batch size 16" in sharpness.answer(analysed)
    assert sharpness.explain(analysed) == ""


def test_a_seed_that_does_not_reach_the_fitted_loss_does_not_take_the_verdict():
    rows = minima([10, 20, 40], [20, 44, 80])
    long = (rows["batch_size"] == 16) & (rows["updates"] == 99)
    rows.loc[long, "train_loss"] = [0.04, 0.04, 0.07]
    (row,) = sharpness.judge(findings(rows))
    assert (row.verdict, row.effect.n) == ("holds", 3)


def test_one_size_alone_is_drawn_all_the_same():
    analysed = findings(never_fitted(minima([10, 20, 40], [20, 44, 80])))
    assert len(sharpness.figure(analysed).axes[0].lines) == 2
    assert [measure.small_median for measure in analysed.measures.values()] == pytest.approx([20.0] * 4)
    assert sharpness.numbers(analysed)["Small, median"].tolist() == ["20.0"] * 4
    assert sharpness.numbers(analysed)["Large, median"].tolist() == ["–"] * 4


def test_sharpness_is_interpolated_in_logs_at_an_equal_loss():
    """Twice as sharp at a loss of 1 as at 0.0625: 2^(1/2) times as sharp at 0.25, and the ratio stays."""
    rows = minima([10, 20, 40], [20, 40, 80])
    course = findings(rows).measures[EIGENVALUE].course
    assert list(course) == pytest.approx([0.5, 0.25, 0.125, 0.0625])
    assert [interval.estimate for interval in course.values()] == pytest.approx([2] * 4)
    further = rows.assign(train_loss=rows["train_loss"].where((rows["batch_size"] == 1), rows["train_loss"] / 4))
    course = findings(further).measures[EIGENVALUE].course
    assert course[0.25].estimate == pytest.approx(2 * 2 / 2**0.5)
    assert course[0.0625].estimate == pytest.approx(2 * 2**0.5)


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
    assert sharpness.answer(analysed).endswith(
        "the trace of the Hessian also shows the large batch as significantly sharper (with Holm's correction)."
    )
    assert "no single meaning" in sharpness.explain(analysed)


def test_the_answer_says_where_no_other_measure_agrees():
    analysed = findings(
        minima([10, 20, 40], [20, 44, 80], trace=[9, 20, 41], invariant=[11, 19, 40], keskar=[5, 9, 20])
    )
    assert "Of 3 other measures, none also shows the large batch as significantly sharper" in sharpness.answer(
        analysed
    )


def test_the_other_measures_are_judged_after_holms_correction():
    """An interval above 1 with p = 0.034, of which Holm's correction makes 0.068: the third of four."""
    invariant = list(10 * np.exp([0.25, 0.5, 0.4]))
    borderline = findings(minima([10, 10, 10], [20, 22, 20], invariant=invariant, keskar=[10, 9, 11]))
    measure = borderline.measures["invariant"]
    assert measure.large_over_small.low > 1
    assert measure.verdict == "undecided"


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
