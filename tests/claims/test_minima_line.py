import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from suite.cells import Scope
from suite.claims import minima_line, sharpness
from suite.instruments.line import PLACES
from tests.claims.evidence import evidence
from tests.claims.test_sharpness import minima
from tests.conftest import tiny


def line_rows(steepness: dict[int, float], status: str = "ok") -> pd.DataFrame:
    """Of each seed a loss of 0.1 at both ends and between, that rises beyond them, `steepness` times as fast beyond
    Large in its logarithm."""
    frames = []
    for seed, factor in steepness.items():
        beyond = np.maximum(0, -PLACES) + factor * np.maximum(0, PLACES - 1)
        loss = 0.1 * np.exp(beyond)
        values = {"train_loss": loss, "test_loss": 2 * loss, "train_score": 1 - loss, "test_score": 1 - 2 * loss}
        frames.append(pd.DataFrame({"place": PLACES, **values}).assign(seed=seed))
    return pd.concat(frames).assign(measurement="line", batch_size=16, status=status, protocol="p")


def test_the_rise_beyond_each_end_is_read_at_half_the_length():
    found = minima_line.rises(evidence(line_rows({0: 2, 1: 4, 2: 6})))
    assert math.isclose(found["small"].estimate, math.exp(0.5))
    assert math.isclose(found["large"].estimate, math.exp(2))
    assert found["large"].low < math.exp(2) < found["large"].high
    assert "beyond Small the training loss rises ×1.65" in minima_line.sentence(evidence(line_rows({0: 2, 1: 4})))


def test_loss_and_score_are_drawn_for_both_splits_and_every_seed():
    figure = minima_line.draw(evidence(line_rows({0: 2, 1: 4})))
    loss, score = figure.axes
    assert loss.get_yscale() == "log"
    for axes in (loss, score):
        colours = [to_rgba(line.get_color()) for line in axes.lines if len(line.get_xdata()) == 25]
        assert sorted(colours.count(to_rgba(colour)) for colour in minima_line.COLOURS.values()) == [3, 3]
        assert [tick.get_text() for tick in axes.get_xticklabels()][1:3] == ["0\nSmall, 1", "1\nLarge, 16"]


def without_a_line(seeds: list[int]) -> pd.DataFrame:
    """As the instrument has it: no places."""
    return pd.DataFrame({"seed": seeds}).assign(measurement="line", batch_size=16, status="target_not_reached")


FAILED = pd.DataFrame([{"measurement": "line", "batch_size": 16, "status": "out_of_memory", "reason": "too much"}])


@pytest.mark.parametrize(
    ("rows", "why"),
    [(without_a_line([0, 1, 2]), "3 of 3 seeds: target not reached"), (FAILED, "out of memory, too much")],
)
def test_without_a_line_nothing_is_drawn_and_one_sentence_says_why(rows, why):
    found = evidence(rows)
    assert minima_line.draw(found) is None
    assert minima_line.sentence(found) == f"There is no line from Small's solution to Large's ({why})."


def test_where_no_line_was_planned_nothing_is_said():
    assert minima_line.sentence(evidence(minima([10, 20], [20, 40]))) == ""


def test_seeds_without_a_line_are_counted():
    said = minima_line.sentence(evidence(line_rows({0: 2, 1: 4}), without_a_line([2])))
    assert said.endswith("Seeds without a value are left out (1 of 3 seeds: target not reached).")


def test_the_line_is_told_where_the_solutions_cannot_be_compared():
    found = evidence(minima([10, 20], [20, 40]).assign(status="target_not_reached"), line_rows({0: 2, 1: 4}))
    said = sharpness.explain(found, sharpness.judge(found))
    assert "cannot be made: 2 of 2 seeds at batch size 1: target not reached. Along the line" in said


def test_the_line_does_not_disturb_the_verdict_on_the_solutions():
    measured = minima([10, 20, 40], [20, 44, 80])
    (alone,), (beside,) = (
        sharpness.judge(evidence(*frames))
        for frames in ([measured], [measured, line_rows({0: 2}, status="target_not_reached")])
    )
    assert alone == beside
    assert alone.verdict == "holds"


def test_the_line_joins_small_and_large_of_the_same_training_as_their_sharpness():
    scope = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds=9, processes=9, backends=("cpu",), training_backend="cpu")
    *sharp, line = sharpness.cells(tiny(), scope)
    assert {cell.batch_size for cell in sharp} == {line.batch_size, line.compared_with}
    assert {cell.protocol for cell in sharp} == {line.protocol}
    assert len(sharpness.cells(tiny(), Scope((1, 4), (1, 4), (1, 4), 9, 9, ("cpu",), "cpu"))) == 1
