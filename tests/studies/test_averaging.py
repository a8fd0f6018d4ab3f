from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.experiments.training import measure
from suite.statistics import Verdict
from suite.status import Status
from suite.studies import scores_by_batch_size
from suite.studies.averaging import AVERAGED, LAST, Findings, analyse, cells, protocols, study
from tests.conftest import blobs, tiny
from tests.evidence import FACTS, evidence

SCOPE = Scope((1, 4, 16), (1, 16), (1, 4, 16), seeds=3, processes=2, backends=("cpu",), training_backend="cpu")
UPDATES = {1: 120, 16: 9}


def trained(name: str, batch_size: int, scores: list[float], losses=(0.5, 0.5, 0.5), statuses=None) -> pd.DataFrame:
    """Two evaluations of each seed: at initialisation, and at the end with its loss and score."""
    statuses = statuses or {}
    lines = [
        {
            "seed": seed,
            "updates": evaluation * UPDATES[batch_size],
            "train_loss": loss if evaluation else 2.0,
            "test_score": score if evaluation else 0.3,
            "status": statuses.get(seed, "ok"),
        }
        for seed, (score, loss) in enumerate(zip(scores, losses, strict=True))
        for evaluation in (0, 1)
    ]
    return pd.DataFrame(lines).assign(
        measurement="training", protocol=protocols(FACTS)[name].key, batch_size=batch_size
    )


def failed(name: str, batch_size: int) -> pd.DataFrame:
    line = {"measurement": "training", "status": "out_of_memory", "reason": "too much", "batch_size": batch_size}
    return pd.DataFrame([line | {"protocol": protocols(FACTS)[name].key}])


LIFTED = (
    trained(LAST, 1, [0.90, 0.92, 0.91], (0.10, 0.20, 0.15)),
    trained(AVERAGED, 1, [0.95, 0.96, 0.96], (0.05, 0.11, 0.07)),
)
LOWERED = (
    trained(LAST, 16, [0.60, 0.70, 0.50], (1.0, 0.9, 1.1)),
    trained(AVERAGED, 16, [0.55, 0.64, 0.44], (1.2, 1.1, 1.3)),
)


def analysed(*frames: pd.DataFrame) -> Findings:
    return analyse(evidence(*frames))


def test_scores_are_subtracted_in_pairs():
    ends = analysed(*LIFTED, *LOWERED).ends[1]
    differences = np.array([0.05, 0.04, 0.05])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    difference = ends.score_difference
    assert (difference.estimate, difference.low, difference.high) == pytest.approx((differences.mean(), low, high))
    assert {name: score.estimate for name, score in ends.test_scores.items()} == pytest.approx(
        {LAST: 0.91, AVERAGED: np.mean([0.95, 0.96, 0.96])}
    )
    assert ends.train_losses[LAST].estimate == pytest.approx((0.10 * 0.20 * 0.15) ** (1 / 3))
    assert ends.updates == 120


def test_averaging_lifts_the_score_of_small_and_lowers_that_of_large():
    findings = analysed(*LIFTED, *LOWERED)
    assert (findings.ends[1].tests_better, findings.ends[1].lags) == (Verdict.HOLDS, Verdict.FAILS)
    assert (findings.ends[16].tests_better, findings.ends[16].lags) == (Verdict.FAILS, Verdict.HOLDS)
    assert study.answer(findings) == (
        "After 3 epochs, averaging the parameters lifts the test accuracy at batch size 1 from 0.9100 to 0.9567 and "
        "lowers it at batch size 16 from 0.6000 to 0.5433."
    )
    text = study.explain(findings)
    assert "lowers the training loss from 0.144 to 0.0727 (120 updates) at batch size 1." in text
    assert "raises the training loss from 0.997 to 1.20 (9 updates) at batch size 16." in text
    assert "left out" not in text


def test_an_undecided_difference_is_no_effect_and_no_mechanism_is_named():
    findings = analysed(
        trained(LAST, 1, [0.90, 0.92, 0.91], (0.5, 0.4, 0.6)),
        trained(AVERAGED, 1, [0.91, 0.90, 0.92], (0.4, 0.5, 0.6)),
    )
    assert study.answer(findings) == (
        "After 3 epochs, averaging the parameters has no significant effect on the test accuracy at batch size 1 "
        "(0.9100 instead of 0.9100)."
    )
    assert "training loss" not in study.explain(findings)


def test_seeds_that_diverged_in_either_are_left_out_of_both_and_counted():
    findings = analysed(
        trained(LAST, 1, [0.90, 0.92, 0.91], statuses={0: "diverged"}),
        trained(AVERAGED, 1, [0.95, 0.96, 0.97], statuses={2: "diverged"}),
    )
    difference = findings.ends[1].score_difference
    assert (difference.estimate, difference.n) == (pytest.approx(0.04), 1)
    assert findings.problems == (
        Problem(Status.DIVERGED, "", 1, 3, "at batch size 1, after the last update"),
        Problem(Status.DIVERGED, "", 1, 3, "at batch size 1, averaged parameters"),
    )
    assert "1 of 3 seeds at batch size 1, averaged parameters: diverged" in study.explain(findings)
    assert "no interval" in study.numbers(findings)["95% interval"][0]


def test_a_batch_size_without_one_of_the_two_is_left_out():
    findings = analysed(*LIFTED, LOWERED[0], failed(AVERAGED, 16))
    assert list(findings.ends) == [1]
    assert "out of memory at batch size 16, averaged parameters, too much" in study.explain(findings)


def test_without_a_value_the_answer_gives_the_reason_and_nothing_is_drawn():
    findings = analysed(failed(LAST, 1), failed(AVERAGED, 1))
    assert "cannot be compared with those after the last update: out of memory" in study.answer(findings)
    assert study.explain(findings) == ""
    assert study.figure(findings) is None
    assert study.numbers(findings).empty


def test_both_are_drawn_over_the_batch_size_with_their_scores_and_their_losses():
    scores, losses = study.figure(analysed(*LIFTED, *LOWERED)).axes
    last, averaged = (line for line in scores.lines if line.get_linestyle() in ("--", "-"))
    assert (list(last.get_xdata()), list(last.get_ydata())) == ([1, 16], pytest.approx([0.91, 0.6]))
    assert list(averaged.get_ydata()) == pytest.approx([np.mean([0.95, 0.96, 0.96]), np.mean([0.55, 0.64, 0.44])])
    assert [text.get_text() for text in scores.get_legend().get_texts()] == [
        "after the last update",
        "averaged parameters",
    ]
    assert (scores.get_ylabel(), losses.get_ylabel()) == ("test accuracy", "training loss")


def test_every_batch_size_is_a_line_of_numbers():
    table = study.numbers(analysed(*LIFTED, *LOWERED))
    assert table["batch size"].tolist() == ["1", "16"]
    assert table["updates"].tolist() == ["120", "9"]
    assert table["averaged − last update"].tolist() == ["+0.0467", "−0.0567"]
    assert table["seeds"].tolist() == ["3", "3"]


def test_the_trainings_evaluated_after_the_last_update_are_cells_of_the_claim():
    planned, claimed = cells(tiny(), SCOPE), scores_by_batch_size.cells(tiny(), SCOPE)
    assert [(cell.protocol.averaged, cell.batch_size) for cell in planned] == [
        (False, 1),
        (False, 16),
        (True, 1),
        (True, 16),
    ]
    assert {cell for cell in planned if not cell.protocol.averaged} < set(claimed)


def test_both_start_from_the_same_parameters_and_the_average_lags_behind_a_falling_loss():
    """At batch size 16 the loss of the blobs falls all the way."""
    workload = tiny()
    frames = [
        measure(workload, blobs(), cell).assign(**cell.describe())
        for cell in cells(workload, replace(SCOPE, seeds=5))
        if cell.batch_size == 16
    ]
    last, averaged = (frame[frame["updates"] == 0]["train_loss"].tolist() for frame in frames)
    assert last == averaged
    findings = analysed(*frames)
    assert findings.ends[16].lags is Verdict.HOLDS
    assert findings.problems == ()
