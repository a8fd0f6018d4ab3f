"""A rate nearer to the best than the grid's, at the batch size that is recommended."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.advisor import Advice, advise
from suite.advise.answer import learning_rates, lines, to_dict
from suite.advise.measured import Trained
from suite.advise.recommendation import cheapest
from suite.advise.training import FINE, Replicas
from suite.backends import CPU
from suite.statistics import value_at_crossing
from suite.training.plain import train_in_turns
from suite.training.protocol import Protocol, TargetLoss
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


def advised(fewer: float, check: bool = True) -> Advice:
    trainer = Refined(fewer)
    return advise(trainer, trainer.timings(), check, lambda what: None)


def test_a_better_rate_is_recommended_with_what_was_measured_at_it():
    found, plain = advised(0.8), advised(1.0)
    size = found.recommendation.fastest
    before, after = plain.table.loc[size], found.table.loc[size]
    assert after["updates"] == pytest.approx(0.8 * before["updates"])
    assert after["time_s"] == pytest.approx(0.8 * before["time_s"])
    assert learning_rates(found)[size] == pytest.approx(1.4 * learning_rates(plain)[size])
    others = found.table.index != size
    assert found.table[others].equals(plain.table[others])
    facts = to_dict(found, "toy", "cpu", 1, 0.1, 0.0)
    assert facts["recommended"]["fastest"]["learning_rate"] == facts["refined"]["learning_rate"]
    words = lines(found, 0.1)
    assert f"learning rate {learning_rates(found)[size]:.3g} " in words[0]
    assert f"refined from {learning_rates(plain)[size]:.3g} to {learning_rates(found)[size]:.3g}" in words[-1]


def test_which_batch_sizes_are_as_fast_is_judged_at_rates_tuned_alike():
    found, plain = advised(0.5), advised(1.0)
    for bound in ("fastest", "low", "high"):
        assert getattr(found.recommendation, bound) == getattr(plain.recommendation, bound)
    assert found.recommendation.low < found.recommendation.high
    assert ", at rates tuned alike: batch sizes" in lines(found, 0.1)[2]


def test_what_needs_fewer_examples_at_a_refined_rate_is_the_cheapest():
    found, plain = advised(0.5), advised(1.0)
    assert plain.recommendation.cheapest < plain.recommendation.fastest
    assert found.recommendation.cheapest == found.recommendation.fastest == cheapest(found.table, found.trained)


@pytest.mark.parametrize("fewer", [1.0, 1.2, math.inf])
def test_a_rate_that_is_no_better_with_fresh_replicas_is_left(fewer):
    found = advised(fewer)
    assert found.refined is None
    assert math.isfinite(found.table.loc[found.recommendation.fastest, "time_s"])
    assert to_dict(found, "toy", "cpu", 1, 0.1, 0.0)["refined"] is None
    assert "refined" not in lines(found, 0.1)[-1]
    assert "alike" not in lines(found, 0.1)[2]


def test_nothing_is_refined_unchecked():
    assert advised(0.5, check=False).refined is None


def updates_of_trials(trainer: Replicas, size: int, rate: float) -> float:
    """Mean updates to the target of the replicas that rates are tried with, one after another."""
    workload = trainer.workload
    protocol = Protocol(rate, TargetLoss(workload.target_loss, workload.max_updates, 1.2))
    replicas = range(FIRST_TRIED, FIRST_TRIED + FINE.seeds)
    seen = train_in_turns(workload, trainer.data, [protocol] * FINE.seeds, size, replicas)
    found = [
        value_at_crossing([look[1] for look in one], [look[0] for look in one], workload.target_loss) for one in seen
    ]
    return float(np.nan_to_num(np.mean(found), nan=math.inf))


@pytest.mark.parametrize("rate", [0.1, 1.7, 2.4])
def test_the_best_of_the_rate_and_its_neighbours_is_trained(rate):
    workload = tiny(target_loss=0.5, max_updates=2000)
    trainer = Replicas(workload, workload.load(), CPU, 3, 1)
    before = trainer.at_rate(8, rate, 100.0)
    assert before.reached
    found = trainer.refined(before)
    rates = [rate / math.sqrt(2), rate, rate * math.sqrt(2)]
    best = min(rates, key=lambda one: updates_of_trials(trainer, 8, one))
    assert found.learning_rate == pytest.approx(best)
    assert (found is before) == (best == rate)
    if found is not before:
        again = trainer.at_rate(8, found.learning_rate, found.typical_updates)
        assert found.updates == pytest.approx(again.updates, rel=0.02)
