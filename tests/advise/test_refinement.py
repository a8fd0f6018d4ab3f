"""A refined learning rate at the recommended batch size."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import updates_to_target
from suite.advise.advisor import Recommendation, advise
from suite.advise.answer import learning_rates, lines, range_label
from suite.advise.figure import draw
from suite.advise.measurements import TrainingRun
from suite.advise.stored_answer import to_dict
from suite.advise.training import FINE, Replicas
from suite.advise.verification import Check
from suite.backends import CPU
from suite.formatting import three_digits
from suite.training.tuning import FIRST_TRIAL_REPLICA
from tests.advise.constant_noise import ConstantNoise
from tests.conftest import tiny


class Refined(ConstantNoise):
    """At its refined rate a run takes `factor` times the updates."""

    def __init__(self, factor: float):
        super().__init__(24, 1e-3, 1e-5)
        self.factor = factor

    def refined_run(self, run: TrainingRun) -> TrainingRun:
        updates = tuple(self.factor * updates for updates in run.updates)
        return replace(run, learning_rate=1.4 * run.learning_rate, updates=updates, update_s=math.nan)


def labels(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def recommend(factor: float, with_checks: bool = True) -> Recommendation:
    trainer = Refined(factor)
    return advise(trainer, trainer.timings(), with_checks, lambda step: None)


def test_a_better_rate_is_recommended_with_its_measured_values():
    refined, plain = recommend(0.8), recommend(1.0)
    size = refined.choice.fastest
    before, after = plain.table.loc[size], refined.table.loc[size]
    assert after["updates"] == pytest.approx(0.8 * before["updates"])
    assert after["time_s"] == pytest.approx(0.8 * before["time_s"])
    rate_before, rate_after = learning_rates(plain)[size], learning_rates(refined)[size]
    assert rate_after == pytest.approx(1.4 * rate_before)
    assert refined.checked_table.equals(plain.checked_table)
    unrefined_sizes = refined.table.index != size
    assert refined.table[unrefined_sizes].equals(plain.table[unrefined_sizes])
    answer = to_dict(refined, "toy", "cpu", 1, 0.1, 0.0)
    assert answer["recommended"]["fastest"]["learning_rate"] == answer["refined"]["learning_rate"]
    words = lines(refined, 0.1)
    assert f"learning rate {rate_after:.3g} " in words[0]
    assert f"refined from {rate_before:.3g} to {rate_after:.3g}, batch size" in words[-1]
    assert f"took {three_digits(after['updates'])} updates." in words[-1]
    assert range_label(refined) in labels(draw(refined, "toy", "cpu", 0.1))
    assert "at a refined rate" in labels(draw(refined, "toy", "cpu", 0.1))


def test_the_range_within_10_percent_is_from_before_the_refinement():
    refined, plain = recommend(0.5), recommend(1.0)
    for bound in ("fastest", "low", "high"):
        assert getattr(refined.choice, bound) == getattr(plain.choice, bound)
    assert refined.choice.low < refined.choice.high
    assert lines(refined, 0.1)[2].startswith("Within 10% of the fastest before its rate was refined: batch sizes ")
    assert lines(plain, 0.1)[2].startswith("Within 10% of the fastest: batch sizes ")


def test_the_fastest_batch_size_is_the_cheapest_where_it_needs_fewer_examples_at_its_refined_rate():
    refined, plain = recommend(0.5), recommend(1.0)
    assert plain.choice.cheapest < plain.choice.fastest
    assert refined.choice.cheapest == refined.choice.fastest
    assert "it is also the fastest" in lines(refined, 0.1)[1]
    examples = plain.checked_table["examples"]
    slightly_more = recommend(1.01 * examples[plain.choice.cheapest] / examples[plain.choice.fastest])
    assert slightly_more.refined_run
    assert slightly_more.choice == plain.choice


@pytest.mark.parametrize("factor", [1.0, 1.2, math.inf])
def test_a_rate_that_is_no_better_with_held_out_seeds_is_not_recommended(factor):
    recommendation = recommend(factor)
    assert recommendation.refined_run is None
    assert math.isfinite(recommendation.checked_table.loc[recommendation.choice.fastest, "time_s"])
    assert to_dict(recommendation, "toy", "cpu", 1, 0.1, 0.0)["refined"] is None
    assert "refined" not in lines(recommendation, 0.1)[-1]
    assert "at a refined rate" not in labels(draw(recommendation, "toy", "cpu", 0.1))


def test_of_two_runs_at_a_batch_size_the_later_counts_and_failed_runs_do_not():
    plain = recommend(1.0)
    row = plain.predicted_table.iloc[0]
    again, stuck = (replace(run, updates=(7.0,)) for run in plain.prediction.runs)
    stuck = replace(stuck, updates=(7.0, math.inf))
    recommendation = replace(plain, checks=(Check(again, row), Check(stuck, row)))
    assert recommendation.latest_runs == {again.batch_size: again}


def test_without_checks_no_rate_is_refined():
    assert recommend(0.5, with_checks=False).refined_run is None


def updates_of_trials(trainer: Replicas, size: int, rate: float) -> float:
    """Mean updates to the target of the replicas of the trials, trained one after another."""
    workload, replicas = trainer.workload, range(FIRST_TRIAL_REPLICA, FIRST_TRIAL_REPLICA + FINE.seeds)
    updates = updates_to_target(workload, trainer.data, size, rate, workload.max_updates, replicas)
    return float(np.nan_to_num(np.mean(updates), nan=math.inf))


def replicas_at(rate: float) -> tuple[Replicas, TrainingRun]:
    """Replicas, and their run at `rate`."""
    workload = tiny(target_loss=0.5, max_updates=2000)
    trainer = Replicas(workload, workload.load(), CPU, 3, 1)
    run = trainer.run_at_rate(8, rate, 100.0)
    assert run.reached
    return trainer, run


@pytest.mark.parametrize("rate", [0.1, 1.7, 2.4])
def test_the_best_of_the_rate_and_its_neighbours_is_trained(rate):
    trainer, before = replicas_at(rate)
    refined = trainer.refined_run(before)
    rates = [rate / math.sqrt(2), rate, rate * math.sqrt(2)]
    best = min(rates, key=lambda candidate: updates_of_trials(trainer, 8, candidate))
    assert refined.learning_rate == pytest.approx(best)
    assert (refined is before) == (best == rate)
    if refined is not before:
        again = trainer.run_at_rate(8, refined.learning_rate, refined.typical_updates)
        assert refined.updates == pytest.approx(again.updates, rel=0.02)
        assert refined.learning_rates == pytest.approx(rates)


def test_a_refined_rate_at_which_a_replica_is_stuck_is_not_halved(monkeypatch):
    trainer, before = replicas_at(0.1)
    rates = []

    def stuck(batch_size, rate, budget, held_out):
        rates.append(rate)
        return (5.0, math.inf, 5.0)

    monkeypatch.setattr(trainer, "_updates", stuck)
    refined = trainer.refined_run(before)
    assert rates == [refined.learning_rate] == pytest.approx([0.1 * math.sqrt(2)])
    assert not refined.reached
