"""The verdicts of Generalization through the whole path, on workloads whose true difference is known."""

import pytest

from benchmarks.generalization_verdicts import CASES, tally
from suite.statistics import Verdict


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Small tests better", Verdict.HOLDS),
        ("Small tests worse", Verdict.FAILS),
        ("Small twice, other shuffles", Verdict.UNDECIDED),
    ],
)
def test_the_verdict_is_that_of_the_known_difference(name, expected):
    result = tally(CASES[name], base_seeds=2)
    assert dict(result.verdicts) == {expected: 2}
    assert result.mean_effect == pytest.approx(CASES[name].true_effect, abs=0.03)
