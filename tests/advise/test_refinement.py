"""A rate nearer to the best than the grid's, at the batch size that is recommended."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import updates_to_target
from suite.advise.advisor import Advice, advise
from suite.advise.answer import learning_rates, lines, to_dict, within_range
from suite.advise.figure import draw
from suite.advise.measured import Trained
from suite.advise.training import FINE, Replicas
from suite.advise.verification import Checked
from suite.backends import CPU
from suite.claims.drawing import three_digits
from suite.training.tuning import FIRST_TRIED
from tests.advise.constant_noise import ConstantNoise
from tests.conftest import tiny


class Refined(ConstantNoise):
    """Its refined rate takes `fewer` times the updates."""

    def __init__(self, fewer: float):
        super().__init__(24, 1e-3, 1e-5)
        self.fewer = fewer

    def refined(self, trained: Trained) -> Trained:
        updates = tuple(self.fewer * one for one in trained.updates)
        return replace(trained, learning_rate=1.4 * trained.learning_rate, updates=updates, update_s=math.nan)


def labels(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def advised(fewer: float, check: bool = True) -> Advice:
    trainer = Refined(fewer)
    return advise(trainer, trainer.timings(), check, lambda what: None)


def test_a_better_rate_is_recommended_with_what_was_measured_at_it():
    found, plain = advised(0.8), advised(1.0)
    size = found.recommendation.fastest
    before, after = plain.final.loc[size], found.final.loc[size]
    assert after["updates"] == pytest.approx(0.8 * before["updates"])
    assert after["time_s"] == pytest.approx(0.8 * before["time_s"])
    assert learning_rates(found)[size] == pytest.approx(1.4 * learning_rates(plain)[size])
    assert found.table.equals(plain.table)
    others = found.final.index != size
    assert found.final[others].equals(plain.final[others])
    facts = to_dict(found, "toy", "cpu", 1, 0.1, 0.0)
    assert facts["recommended"]["fastest"]["learning_rate"] == facts["refined"]["learning_rate"]
    words = lines(found, 0.1)
    assert f"learning rate {learning_rates(found)[size]:.3g} " in words[0]
    assert (
        f"refined from {learning_rates(plain)[size]:.3g} to {learning_rates(found)[size]:.3g}, batch size"
        in words[-1]
    )
    assert f"took {three_digits(after['updates'])} updates." in words[-1]
    assert within_range(found) in labels(draw(found, "toy", "cpu", 0.1))
    assert "at a refined rate" in labels(draw(found, "toy", "cpu", 0.1))


def test_which_batch_sizes_are_as_fast_is_judged_before_the_rate_is_refined():
    found, plain = advised(0.5), advised(1.0)
    for bound in ("fastest", "low", "high"):
        assert getattr(found.recommendation, bound) == getattr(plain.recommendation, bound)
    assert found.recommendation.low < found.recommendation.high
    assert lines(found, 0.1)[2].startswith("Within 10% of the fastest before its rate was refined, of those")
    assert lines(plain, 0.1)[2].startswith("Within 10% of the fastest, of those")


def test_what_needs_fewer_examples_at_a_refined_rate_is_the_cheapest():
    found, plain = advised(0.5), advised(1.0)
    assert plain.recommendation.cheapest < plain.recommendation.fastest
    assert found.recommendation.cheapest == found.recommendation.fastest
    fewest = plain.table.loc[plain.recommendation.cheapest, "examples"]
    few = advised(1.01 * fewest / plain.table.loc[plain.recommendation.fastest, "examples"])
    assert few.refined
    assert few.recommendation == plain.recommendation


@pytest.mark.parametrize("fewer", [1.0, 1.2, math.inf])
def test_a_rate_that_is_no_better_with_fresh_replicas_is_left(fewer):
    found = advised(fewer)
    assert found.refined is None
    assert math.isfinite(found.table.loc[found.recommendation.fastest, "time_s"])
    assert to_dict(found, "toy", "cpu", 1, 0.1, 0.0)["refined"] is None
    assert "refined" not in lines(found, 0.1)[-1]
    assert "at a refined rate" not in labels(draw(found, "toy", "cpu", 0.1))


def test_of_two_trainings_of_a_batch_size_the_later_counts_and_none_that_was_stuck():
    plain = advised(1.0)
    row = plain.before.iloc[0]
    again, stuck = (replace(one, updates=(7.0,)) for one in plain.curve.trained)
    stuck = replace(stuck, updates=(7.0, math.inf))
    found = replace(plain, checked=(Checked(again, row), Checked(stuck, row)))
    assert found.last_trained == {again.batch_size: again}


def test_nothing_is_refined_unchecked():
    assert advised(0.5, check=False).refined is None


def updates_of_trials(trainer: Replicas, size: int, rate: float) -> float:
    """Mean updates to the target of the replicas that rates are tried with, one after another."""
    workload, replicas = trainer.workload, range(FIRST_TRIED, FIRST_TRIED + FINE.seeds)
    found = updates_to_target(workload, trainer.data, size, rate, workload.max_updates, replicas)
    return float(np.nan_to_num(np.mean(found), nan=math.inf))


def replicas_at(rate: float) -> tuple[Replicas, Trained]:
    """Replicas, and what they came to at `rate`."""
    workload = tiny(target_loss=0.5, max_updates=2000)
    trainer = Replicas(workload, workload.load(), CPU, 3, 1)
    before = trainer.at_rate(8, rate, 100.0)
    assert before.reached
    return trainer, before


@pytest.mark.parametrize("rate", [0.1, 1.7, 2.4])
def test_the_best_of_the_rate_and_its_neighbours_is_trained(rate):
    trainer, before = replicas_at(rate)
    found = trainer.refined(before)
    rates = [rate / math.sqrt(2), rate, rate * math.sqrt(2)]
    best = min(rates, key=lambda one: updates_of_trials(trainer, 8, one))
    assert found.learning_rate == pytest.approx(best)
    assert (found is before) == (best == rate)
    if found is not before:
        again = trainer.at_rate(8, found.learning_rate, found.typical_updates)
        assert found.updates == pytest.approx(again.updates, rel=0.02)
        assert found.rates == pytest.approx(rates)


def test_a_refined_rate_at_which_a_replica_is_stuck_is_not_halved(monkeypatch):
    trainer, before = replicas_at(0.1)
    asked = []

    def stuck(batch_size, rate, budget, fresh):
        asked.append(rate)
        return (5.0, math.inf, 5.0)

    monkeypatch.setattr(trainer, "_updates", stuck)
    found = trainer.refined(before)
    assert asked == [found.learning_rate] == pytest.approx([0.1 * math.sqrt(2)])
    assert not found.reached
