import math

import pandas as pd
import pytest
import torch

from suite.timing.quick_timings import THREAD_ROUNDS, fastest_threads, measure_threads
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


def test_every_number_of_threads_is_timed_at_every_second_batch_size():
    timings = measure_threads(tiny(), blobs(), slow_s=math.inf)  # on a busy machine any update may be slow
    assert (timings.groupby(["examples", "threads"]).size() == THREAD_ROUNDS).all()
    assert set(timings["examples"]) == {1, 16}
    assert set(timings["threads"]) >= {1}
    assert (timings["time_s"] > 0).all()


def test_a_slow_batch_size_is_timed_once_and_is_the_last():
    timings = measure_threads(tiny(), blobs(), slow_s=0)
    assert (timings.groupby(["examples", "threads"]).size() == 1).all()
    assert set(timings["examples"]) == {1}


def test_timing_threads_leaves_the_number_of_threads_as_it_was():
    measure_threads(tiny(), blobs(), slow_s=0)
    assert torch.get_num_threads() == 1
