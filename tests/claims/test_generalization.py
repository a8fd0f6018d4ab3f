"""Generalization, from annealed trainings with known scores and losses, and from trainings at a constant rate."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import generalization
from suite.claims.claim import Comparison, Row
from suite.evidence import Problem
from suite.evidence.annealed import losses
from suite.experiments.cell import Scope
from suite.statistics import Verdict, value_at_crossing
from suite.status import Status
from suite.training.budgets import TargetLoss
from suite.training.protocol import Protocol
from tests.conftest import tiny
from tests.evidence import FACTS, evidence

TUNED, LOWER = "final", "lower"
LAST_ITERATE = Protocol(0.1, TargetLoss(0.5, 500))


def annealed(scores: dict[int, list[float]], slopes: dict[int, float] | None = None, stages=(TUNED, LOWER)):
    """Trainings of five lengths from both peak rates, whose final losses halve from 1 to 0.0625, the fitted loss.

    `scores` are the test scores of each seed at the fitted loss, by batch size; `slopes` are added to them for every
    length by which a training is shorter.
    """
    lines = [
        {
            "stage": stage,
            "batch_size": size,
            "seed": seed,
            "updates": 16 * 2**length,
            "train_loss": 2.0**-length,
            "train_score": 0.995,
            "test_loss": 0.3 if size == 1 else 0.2,
            "test_score": score + (slopes or {}).get(size, 0) * (4 - length),
            "learning_rate": 0.2 if size == 1 else 0.8,
            "status": "ok",
        }
        for stage in stages
        for size, of_size in scores.items()
        for seed, score in enumerate(of_size)
        for length in range(5)
    ]
    key = Protocol.annealed_to_fit(FACTS).key
    return pd.DataFrame(lines).assign(measurement="annealed_training", protocol=key)


def constant(scores: dict[int, list[float]], protocol=LAST_ITERATE) -> pd.DataFrame:
    """Trainings at a constant rate to the target loss, with the test score of each seed there."""
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": updates,
            "train_loss": loss,
            "test_score": score,
            "status": "ok",
        }
        for size, of_size in scores.items()
        for seed, score in enumerate(of_size)
        for updates, loss in ((10, 1.0), (20, 0.25))
    ]
    return pd.DataFrame(lines).assign(measurement="training", protocol=protocol.key, status="ok", learning_rate=0.1)


SMALL, LARGE = [0.90, 0.91, 0.93], [0.80, 0.82, 0.82]
BETTER, WORSE = {1: SMALL, 16: LARGE}, {1: LARGE, 16: SMALL}


def analysed(*frames: pd.DataFrame) -> generalization.Findings:
    return generalization.analyse(evidence(*frames))


def headline(*frames: pd.DataFrame) -> Row:
    row, *others = generalization.judge(analysed(*frames))
    assert [row.headline, *(other.headline for other in others)] == [True, *[False] * 4]
    return row


def test_the_facts_of_these_trainings():
    """Lengths end at the losses at which they are compared, but for the first and the last."""
    assert (FACTS.target_loss, FACTS.fitted_loss) == (0.5, 0.0625)
    np.testing.assert_allclose(losses(FACTS), [0.5, 0.25, 0.125, 0.0625])
    assert losses(replace(FACTS, target_loss=0.3, fitted_loss=0.3)) == [0.3]


def test_scores_are_compared_in_pairs_at_the_fitted_loss():
    row = headline(annealed(BETTER, slopes={16: 0.3}))
    differences = np.subtract(SMALL, LARGE)
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    np.testing.assert_allclose(
        [row.effect.estimate, row.effect.low, row.effect.high], [differences.mean(), low, high]
    )
    assert (row.verdict, row.kind, row.null) == (Verdict.HOLDS, "difference", 0)
    assert row.measure.startswith("test accuracy at training loss 0.0625, Small − Large (the mean of the differences")
    np.testing.assert_allclose([row.value_small, row.value_large], [np.mean(SMALL), np.mean(LARGE)])


def test_the_claim_fails_where_the_large_batch_tests_better():
    findings = analysed(annealed(WORSE))
    assert generalization.judge(findings)[0].verdict is Verdict.FAILS
    assert generalization.answer(findings).endswith(
        "the large batch tests better: by 10.0 points when the learning rates start from their tuned peaks, and by "
        "10.0 points when they start from lower peaks."
    )


def test_the_claim_is_undecided_where_seeds_disagree():
    findings = analysed(annealed({1: [0.9, 0.8, 0.9], 16: [0.8, 0.9, 0.9]}))
    assert generalization.judge(findings)[0].verdict is Verdict.UNDECIDED
    assert "neither batch size tests better for certain" in generalization.answer(findings)


def test_scores_are_interpolated_over_the_log_of_the_loss():
    """A loss between those of two lengths: their scores in equal parts where its log lies in the middle."""
    shifted = annealed({1: [0.9, 0.9, 0.9], 16: [0.8, 0.8, 0.8]}, slopes={16: 0.01})
    shifted["train_loss"] *= math.sqrt(0.5)
    findings = analysed(shifted)
    expected = value_at_crossing([2.0**-3 * math.sqrt(0.5), 2.0**-4 * math.sqrt(0.5)], [0.81, 0.80], 0.0625)
    assert expected == pytest.approx(0.805)
    assert findings.annealed.comparison.large == pytest.approx(expected)


def test_the_course_has_the_differences_at_every_loss_with_holms_correction():
    findings = analysed(annealed(BETTER, slopes={1: -0.02, 16: 0.03}))
    gaps = np.subtract(SMALL, LARGE).mean() - 0.05 * np.array([3, 2, 1, 0])
    np.testing.assert_allclose([at_loss.gap.estimate for at_loss in findings.course], gaps, atol=1e-12)
    np.testing.assert_allclose([at_loss.loss_gap.estimate for at_loss in findings.course], 0.1)
    np.testing.assert_allclose([at_loss.updates[0] for at_loss in findings.course], [32, 64, 128, 256])
    p_value = stats.ttest_1samp(np.subtract(SMALL, LARGE), 0).pvalue
    assert findings.course[-1].p_holm == pytest.approx(4 * p_value)
    assert findings.course[1].verdict is Verdict.UNDECIDED
    assert findings.course[0].verdict is Verdict.FAILS
    text = generalization.explain(findings)
    assert (
        "If all 4 losses in the figure are tested, with Holm's correction, the small batch tests better at 0.125 and "
        "0.0625; the large batch tests better at 0.500; the difference is not significant at 0.250."
    ) in text


def test_the_other_readings_stand_beside_the_headline():
    averaged, last = {1: [0.86, 0.87], 16: [0.85, 0.86]}, {1: [0.6, 0.6], 16: [0.7, 0.7]}
    findings = analysed(annealed(BETTER), constant(averaged, Protocol.to_target(tiny())), constant(last))
    rows = generalization.judge(findings)
    effects = [row.effect.estimate for row in rows]
    np.testing.assert_allclose(effects, [*[np.subtract(SMALL, LARGE).mean()] * 3, 0.01, -0.1])
    assert [row.headline for row in rows] == [True, False, False, False, False]
    text = generalization.explain(findings)
    assert (
        "averaged parameters must reach this loss and are then tested, the difference in test accuracy is +0.0100"
        in text
    )
    assert "must reach it and are tested, the difference in test accuracy is −0.1000" in text
    assert "The two differ" not in text
    assert generalization.figure(findings) is not None


def test_the_claim_holds_only_where_both_peak_rates_say_so():
    """The interval reaches from the lower bound of one to the upper bound of the other."""
    equal = {1: LARGE, 16: LARGE}
    findings = analysed(annealed(BETTER, stages=[TUNED]), annealed(equal, stages=[LOWER]))
    row = generalization.judge(findings)[0]
    differences = np.subtract(SMALL, LARGE)
    high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))[1]
    np.testing.assert_allclose(
        [row.effect.estimate, row.effect.low, row.effect.high], [differences.mean() / 2, 0, high], atol=1e-12
    )
    assert row.verdict is Verdict.UNDECIDED
    assert findings.tuned_rate.verdict is Verdict.HOLDS
    assert row.effect_text == (
        "+0.0500 on average: +0.1000 (+0.0752 to +0.1248) from tuned rates, +0.0000 (+0.0000 to +0.0000) from lower "
        "ones"
    )
    _, tuned, lower, *_ = generalization.judge(findings)
    assert (tuned.verdict, lower.verdict) == (Verdict.HOLDS, Verdict.UNDECIDED)
    assert "depends on the learning rates" in generalization.answer(findings)
    assert "The two differ" in generalization.explain(findings)
    assert set(findings.course_verdicts.values()) == {Verdict.UNDECIDED}


def test_the_peak_rates_and_training_scores_are_in_the_text():
    text = generalization.explain(analysed(annealed(BETTER)))
    assert "(0.200 at 1, 0.800 at 16)" in text
    assert "the training accuracy is 0.9950 at batch size 1 and 0.9950 at 16" in text


def with_diverged(rows: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """`rows` where the longest training of `seeds` at Large diverged."""
    at_large = (rows["batch_size"] == 16) & rows["seed"].isin(seeds) & (rows["updates"] == rows["updates"].max())
    return rows.assign(status=rows["status"].mask(at_large, "diverged"), train_loss=rows["train_loss"].mask(at_large))


def test_one_seed_of_twenty_that_diverged_is_left_out_and_stated():
    scores = {1: [0.9, 0.8] * 10, 16: [0.8, 0.72] * 10}
    row = headline(with_diverged(annealed(scores), [3]))
    assert row.effect.n == 19
    assert str(row.flags[0]) == "1 of 20 seeds at batch size 16: diverged"


def test_a_seed_that_diverged_from_the_lower_rate_alone_is_stated_too():
    scores = {1: [0.9, 0.8] * 10, 16: [0.8, 0.72] * 10}
    lower = with_diverged(annealed(scores, stages=[LOWER]), [3])
    row = headline(annealed(scores, stages=[TUNED]), lower)
    assert row.flags[0] == Problem(Status.DIVERGED, "", 1, 20, "at batch size 16")


def test_seeds_that_do_not_reach_the_fitted_loss_count_by_the_mean():
    """Large's ends lie at 0.06 and 0.12 in turns: their mean falls to 0.0625 only with a further length."""
    rows = annealed({1: [0.9, 0.8] * 10, 16: [0.8, 0.72] * 10})
    noisy = (rows["batch_size"] == 16) & (rows["seed"] % 2 == 1)
    rows["train_loss"] *= np.where(noisy, 2, 1)
    assert headline(rows).status is Status.TARGET_NOT_REACHED
    further = rows[rows["updates"] == rows["updates"].max()]
    further = further.assign(updates=2 * further["updates"], train_loss=further["train_loss"] / 2)
    row = headline(pd.concat([rows, further]))
    assert (row.status, row.effect.n, row.verdict) == (Status.OK, 20, Verdict.HOLDS)


def test_batch_sizes_whose_mean_never_reaches_the_fitted_loss_have_no_verdict():
    rows = annealed(BETTER)
    row = headline(rows[(rows["batch_size"] != 16) | (rows["train_loss"] > 0.1)])
    assert (row.status, row.verdict) == (Status.TARGET_NOT_REACHED, None)
    assert row.flags[0] == Problem(Status.TARGET_NOT_REACHED, where="at batch size 16")


def test_where_every_length_diverged_there_is_no_verdict():
    rows = annealed(BETTER)
    row = headline(rows.assign(status=rows["status"].mask((rows["batch_size"] == 16), "diverged")))
    assert row.flags[0] == Problem(Status.DIVERGED, "", 3, 3, "at batch size 16")


def test_seeds_that_diverged_at_other_lengths_keep_their_value():
    """At each of the three shortest lengths another seed of twenty diverged: none is missing at the fitted loss."""
    rows = annealed({1: [0.9, 0.8] * 10, 16: [0.8, 0.72] * 10})
    early = (rows["batch_size"] == 16) & (rows["updates"] == 16 * 2 ** rows["seed"]) & (rows["seed"] < 3)
    row = headline(
        rows.assign(status=rows["status"].mask(early, "diverged"), train_loss=rows["train_loss"].mask(early))
    )
    assert row.effect.n == 20
    assert row.flags == ()


def test_where_all_seeds_share_a_test_set_the_interval_contains_its_error():
    """20 test examples, and accuracies whose mean is 0.85 and 0.76: a variance of at most 0.39 / 20."""
    rows = evidence(annealed({1: [0.9, 0.8] * 10, 16: [0.8, 0.72] * 10}))
    shared, split = (
        generalization.analyse(replace(rows, facts=replace(FACTS, resplit=resplit))).tuned_rate.comparison.effect
        for resplit in (False, True)
    )
    assert shared.estimate == split.estimate
    assert shared.high - shared.estimate > 1.9 * math.sqrt(0.39 / FACTS.test_examples)
    assert split.high - split.estimate < 0.01


def test_the_interval_has_the_error_of_the_length_at_which_the_mean_crosses():
    """Scores that follow the loss exactly, so that seeds differ only in the loss at which they end: at an equal loss
    they have the same score, and nothing is uncertain."""
    rows = annealed({1: [0.9] * 10, 16: [0.8] * 10}, stages=[TUNED, LOWER])
    noise = np.random.default_rng(0).normal(0, 0.3, len(rows))
    rows["train_loss"] *= np.exp(noise)
    rows["test_score"] = np.where(rows["batch_size"] == 1, 0.9, 0.8) - 0.01 * np.log(rows["train_loss"])
    further = rows[rows["updates"] == rows["updates"].max()]
    further = further.assign(
        updates=2 * further["updates"],
        train_loss=further["train_loss"] / 4,
        test_score=further["test_score"] + 0.01 * math.log(4),
    )
    effect = headline(pd.concat([rows, further])).effect
    assert (effect.low, effect.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_a_length_at_which_many_seeds_diverged_does_not_count():
    rows = annealed(BETTER)
    at_large = (rows["updates"] == 64) & (rows["batch_size"] == 16)
    diverged = rows.assign(
        status=rows["status"].mask(at_large, "diverged"), train_loss=rows["train_loss"].mask(at_large, 0.01)
    )
    row = headline(diverged)
    assert row.effect == headline(rows).effect
    assert not any(isinstance(flag, Problem) for flag in row.flags)


def test_a_large_batch_that_is_missing_has_its_reason():
    absent = pd.DataFrame([{"batch_size": 16, "status": "out_of_memory", "reason": "it was too much"}])
    absent = absent.assign(protocol=Protocol.annealed_to_fit(FACTS).key)
    findings = analysed(annealed({1: SMALL}), absent)
    row = generalization.judge(findings)[0]
    problem = Problem(Status.OUT_OF_MEMORY, "it was too much")
    assert (row.status, row.verdict, row.flags) == (Status.OUT_OF_MEMORY, None, (problem,))
    assert "it was too much" in generalization.answer(findings)
    assert generalization.figure(findings) is None
    assert generalization.numbers(findings).empty


def test_where_neither_is_trained_there_is_no_verdict():
    scope = Scope((1, 4, 16), (1, 4, 16), (4,), 3, 2, backends=("cpu",), training_backend="cpu")
    assert generalization.cells(tiny(), scope) == []
    absent = {"batch_size": 1, "status": "unavailable", "reason": "not yet"}
    findings = analysed(pd.DataFrame([absent]).assign(protocol=Protocol.annealed_to_fit(FACTS).key))
    assert generalization.judge(findings)[0].status is Status.UNAVAILABLE


def test_a_single_seed_is_undecided():
    findings = analysed(annealed({1: [0.9], 16: [0.8]}))
    assert isinstance(findings.annealed.comparison, Comparison)
    assert generalization.judge(findings)[0].verdict is Verdict.UNDECIDED
