"""The mean escape time against its exact values."""

import pytest

from suite.instruments import mean_escape_time
from suite.workloads.ball import loss_at


def test_the_exact_time_is_that_of_the_symmetric_wells():
    assert mean_escape_time(lambda x: loss_at(x, 0.0), 0.1, -1, 1) == pytest.approx(66.3, abs=0.05)
    assert mean_escape_time(lambda x: loss_at(x, 0.0), 0.1, -1, 0) == pytest.approx(30.8, abs=0.05)
