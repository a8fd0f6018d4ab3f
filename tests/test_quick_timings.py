import math

import pandas as pd
import pytest

from suite import quick_timings
from suite.quick_timings import THREAD_ROUNDS, fastest_threads, measure_threads
from tests.conftest import blobs, tiny


def rows(times: dict[int, list[float]]) -> pd.DataFrame:
    """By number of threads, the update time at each of several batch sizes, once disturbed in three rounds."""
    lines = [
        {"round": turn, "threads": threads, "examples": size, "time_s": time_s * (10 if turn == 0 else 1)}
        for threads, of_threads in times.items()
        for size, time_s in enumerate(of_threads)
        for turn in range(3)
    ]
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("times", "fastest"),
    [
        ({1: [1, 4], 2: [1, 2]}, 2),
        ({1: [1, 4], 2: [4, 2]}, 1),
        ({1: [1, 4], 2: [0.98, 3.92]}, 1),
        ({1: [4, 4], 2: [2, 2], 4: [1, 1]}, 4),
    ],
)
def test_more_threads_must_win_over_all_batch_sizes(times, fastest):
    assert fastest_threads(rows(times)) == fastest


def test_every_number_of_threads_is_timed_at_every_other_batch_size(monkeypatch):
    monkeypatch.setattr(quick_timings, "SLOW_S", math.inf)  # on a busy machine anything may be
    timed = measure_threads(tiny(), blobs())
    assert (timed.groupby(["examples", "threads"]).size() == THREAD_ROUNDS).all()
    assert set(timed["examples"]) == {1, 16}
    assert set(timed["threads"]) >= {1}
    assert (timed["time_s"] > 0).all()
