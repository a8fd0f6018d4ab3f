import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from suite.claims import sharpness
from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.instruments.minima_line import PLACES
from suite.status import Status
from suite.studies import minima_line
from tests.claims.test_sharpness import minima
from tests.conftest import tiny
from tests.evidence import evidence


def line_rows(steepness: dict[int, float]) -> pd.DataFrame:
    """Of each seed a loss of 0.1 at both ends and between, that rises outside them, `steepness` times as fast outside
    Large in its logarithm."""
    frames = []
    for seed, factor in steepness.items():
        loss = 0.1 * np.exp(np.maximum(0, -PLACES) + factor * np.maximum(0, PLACES - 1))
        values = {"train_loss": loss, "test_loss": 2 * loss, "train_score": 1 - loss, "test_score": 1 - 2 * loss}
        frames.append(pd.DataFrame({"place": PLACES, **values}).assign(seed=seed))
    return pd.concat(frames).assign(measurement="line", batch_size=16, status="ok", protocol="p")


def test_the_rise_outside_each_end_is_read_at_half_the_length():
    findings = minima_line.analyse(evidence(line_rows({0: 2, 1: 4, 2: 6})))
    assert math.isclose(findings.small_rise.estimate, math.exp(0.5))
    assert math.isclose(findings.large_rise.estimate, math.exp(2))
    assert findings.large_rise.low < math.exp(2) < findings.large_rise.high
    text = minima_line.answer(minima_line.analyse(evidence(line_rows({0: 2, 1: 4}))))
    assert "the training loss is 1.65 times as high as at that solution" in text


def test_means_over_seeds_are_geometric_for_losses_and_plain_for_scores():
    findings = minima_line.analyse(evidence(line_rows({0: 2, 1: 4})))
    assert findings.places == tuple(PLACES)
    assert len(findings.losses["train"].seeds) == 2
    assert math.isclose(findings.losses["train"].mean[-1], 0.1 * math.exp(3))
    assert math.isclose(findings.losses["test"].mean[-1], 0.2 * math.exp(3))
    assert math.isclose(findings.scores["train"].mean[-1], 1 - 0.1 * (math.exp(2) + math.exp(4)) / 2)


def test_a_loss_of_almost_zero_counts_as_the_least_that_is_drawn():
    rows = line_rows({0: 2, 1: 4})
    rows["train_loss"] = 0.0
    findings = minima_line.analyse(evidence(rows))
    assert np.allclose(findings.losses["train"].mean, minima_line.MIN_LOSS, rtol=1e-12)
    assert math.isclose(findings.large_rise.estimate, 1)


def test_loss_and_score_are_drawn_for_both_splits_and_every_seed():
    figure = minima_line.figure(minima_line.analyse(evidence(line_rows({0: 2, 1: 4}))))
    loss, score = figure.axes
    assert loss.get_yscale() == "log"
    for axes in (loss, score):
        colours = [to_rgba(line.get_color()) for line in axes.lines if len(line.get_xdata()) == 25]
        assert sorted(colours.count(to_rgba(colour)) for colour in minima_line.COLOURS.values()) == [3, 3]
        assert [tick.get_text() for tick in axes.get_xticklabels()][1:3] == ["0\nSmall, 1", "1\nLarge, 16"]


def without_a_line(seeds: list[int]) -> pd.DataFrame:
    """As the measurement has it: no places."""
    return pd.DataFrame({"seed": seeds}).assign(measurement="line", batch_size=16, status="target_not_reached")


FAILED = pd.DataFrame([{"measurement": "line", "batch_size": 16, "status": "out_of_memory", "reason": "too much"}])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(without_a_line([0, 1, 2]), "3 of 3 seeds: target not reached"), (FAILED, "out of memory, too much")],
)
def test_without_a_line_nothing_is_drawn_and_the_answer_gives_the_reason(rows, reason):
    findings = minima_line.analyse(evidence(rows))
    assert findings.small_rise is None
    assert minima_line.figure(findings) is None
    assert minima_line.answer(findings) == f"The line from Small's solution to Large's was not measured: {reason}."
    assert minima_line.explain(findings) == ""


def test_seeds_without_a_line_are_counted():
    findings = minima_line.analyse(evidence(line_rows({0: 2, 1: 4}), without_a_line([2])))
    assert findings.problems == (Problem(Status.TARGET_NOT_REACHED, replicas=1, all_replicas=3),)
    text = minima_line.explain(findings)
    assert text.endswith("Seeds without a value are left out (1 of 3 seeds: target not reached).")


def test_the_line_is_read_where_the_solutions_cannot_be_compared():
    solutions = minima([10, 20], [20, 40]).assign(status="target_not_reached")
    findings = minima_line.analyse(evidence(solutions, line_rows({0: 2, 1: 4})))
    assert findings.problems == ()
    assert math.isclose(findings.small_rise.estimate, math.exp(0.5))


def test_the_line_does_not_disturb_the_verdict_on_the_solutions():
    solutions = minima([10, 20, 40], [20, 44, 80])
    (alone,), (beside,) = (
        sharpness.judge(sharpness.analyse(evidence(*frames)))
        for frames in ([solutions], [solutions, without_a_line([0])])
    )
    assert alone == beside
    assert alone.verdict == "holds"


def test_the_line_joins_small_and_large_of_the_same_training_as_their_sharpness():
    scope = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds=9, processes=9, backends=("cpu",), training_backend="cpu")
    solutions = sharpness.cells(tiny(), scope)
    (line,) = minima_line.cells(tiny(), scope)
    assert {cell.batch_size for cell in solutions} == {line.batch_size, line.compared_with}
    assert {cell.protocol for cell in solutions} == {line.protocol}


def test_where_large_is_not_trained_no_line_is_planned():
    assert minima_line.cells(tiny(), Scope((1, 4), (1, 4), (1, 4), 9, 9, ("cpu",), "cpu")) == []
