import math

import numpy as np
import pandas as pd
import pytest

from suite.claims import sharpness
from suite.claims.sharpness import MEASURES
from tests.claims.evidence import evidence


def minima(small: list[float], large: list[float], status: str = "ok", **others: list[float]) -> pd.DataFrame:
    """Sharpness of each seed at Small and Large: all four measures alike, but for `others` at Large."""
    frames = []
    for batch_size, sharp in ((1, small), (16, large)):
        measured = dict.fromkeys(MEASURES, sharp) | (others if batch_size == 16 else {})
        frames.append(pd.DataFrame(measured).assign(seed=range(len(sharp)), batch_size=batch_size, status=status))
    rows = pd.concat(frames)
    return rows.assign(measurement="sharpness", protocol="p", updates=9, train_loss=0.5)


def test_a_large_batch_in_a_sharper_minimum_holds():
    (row,) = sharpness.judge(evidence(minima([10, 20, 40], [20, 44, 80])))
    assert row.verdict == "holds"
    assert math.isclose(row.effect, (2 * 2.2 * 2) ** (1 / 3))
    assert math.isclose(row.value_small, 20)
    assert row.seeds == 3


def test_a_large_batch_in_a_flatter_one_fails():
    assert sharpness.judge(evidence(minima([10, 20, 40], [5, 9, 20])))[0].verdict == "fails"


def test_seeds_that_disagree_are_undecided():
    assert sharpness.judge(evidence(minima([10, 20, 40], [5, 44, 50])))[0].verdict == "undecided"


def test_a_target_that_was_not_reached_leaves_no_verdict():
    rows = minima([10, 20, 40], [20, 44, 80])
    rows.loc[(rows["batch_size"] == 16) & (rows["seed"] == 1), "status"] = "target_not_reached"
    found = evidence(rows)
    (row,) = sharpness.judge(found)
    assert (row.verdict, row.status) == ("", "target_not_reached")
    assert "1 of 3 seeds at batch size 16" in sharpness.explain(found, [row])
    assert len(sharpness.draw(found).axes[0].lines) == 2 + 2  # two seeds that have both, and the dots of each size


def test_one_size_alone_is_drawn_all_the_same():
    rows = minima([10, 20, 40], [20, 44, 80])
    rows.loc[rows["batch_size"] == 16, "status"] = "target_not_reached"
    found = evidence(rows)
    assert len(sharpness.draw(found).axes[0].lines) == 2
    assert sharpness.numbers(found)["Small, median"].tolist() == ["20.0"] * 4


def test_each_measure_has_its_own_ratio():
    found = evidence(minima([10, 20, 40], [20, 40, 80], invariant=[10, 20, 40]))
    effects = sharpness.effects(found)
    assert math.isclose(effects["largest_eigenvalue"].estimate, 2)
    assert math.isclose(effects["invariant"].estimate, 1)
    (row,) = sharpness.judge(found)
    assert row.flags.endswith(f"{sharpness.MEASURES['invariant']} undecided")
    assert sharpness.numbers(found)["Large / Small"].tolist() == ["2.00", "2.00", "2.00", "1.00"]


@pytest.mark.parametrize("trace", [-3.0, 0.0, np.nan])
def test_a_trace_that_is_not_positive_has_no_ratio(trace):
    effects = sharpness.effects(evidence(minima([10, 20, 40], [20, 40, 80], trace=[trace, 40, 80])))
    assert effects["trace"].n == 2
