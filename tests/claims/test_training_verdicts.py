"""The rules of the rows about trainings, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_trainings import NEVER, annealed_rows, facts
from benchmarks.training_verdicts import RULES, accuracy, generalization_gap
from suite.claims import generalization
from suite.evidence import Evidence
from suite.experiments.tuned_training import FINAL

SPEED_UP, CRITICAL, GAP, GAP_OF_NOISY_SMALL = RULES


@pytest.mark.parametrize(("name", "bias"), [(SPEED_UP, 0.03), (GAP, 0.0005), (GAP_OF_NOISY_SMALL, 0.0005)])
def test_an_interval_is_about_the_truth_and_rarely_decides_at_the_null(name, bias):
    """Of 100 intervals, each wrong with probability 5%, more than 12 are wrong in 0.1% of runs."""
    result = accuracy(name, RULES[name].truths[0], "0%", seeds=30, experiments=100)
    limit = stats.binom.ppf(0.999, 100, 0.05) / 100
    assert abs(result.bias) < bias
    assert 1 - result.coverage <= limit
    assert result.holds + result.fails <= limit


def test_seeds_that_never_reach_the_target_do_not_move_the_ratio():
    result = accuracy(SPEED_UP, 1.5, "30%, no trials", seeds=30, experiments=50)
    assert abs(result.bias) < 0.1
    assert result.coverage >= stats.binom.ppf(0.001, 50, 0.95) / 50
    assert result.fails == 0


@pytest.mark.parametrize("truth", [2.0, 0.5])
def test_a_ratio_on_the_edge_of_the_equivalence_rarely_holds(truth):
    result = accuracy(CRITICAL, truth, "0%", seeds=10, experiments=10)
    assert result.holds <= stats.binom.ppf(0.999, 10, 0.025) / 10


def test_the_simulated_difference_is_that_of_the_claim_from_one_peak_rate():
    rows = annealed_rows(0.003, "equal noise", NEVER["0%"], 10, np.random.default_rng(0))
    interval = generalization_gap("equal noise", 0.003, NEVER["0%"], 10, np.random.default_rng(0))
    protocol = generalization.annealed_protocol(facts()).key
    stored = rows.assign(protocol=protocol, stage=FINAL, backend="cpu", learning_rate=0.1, train_score=1.0)
    findings = generalization.analyse(Evidence.from_frames(facts(), [stored.assign(test_loss=0.1)]))
    assert findings.tuned_rate.comparison.effect == interval


@pytest.mark.parametrize("name", [GAP, GAP_OF_NOISY_SMALL])
def test_seeds_that_never_fit_do_not_move_the_difference(name):
    result = accuracy(name, 0.003, "30%", seeds=30, experiments=100)
    assert abs(result.bias) < 0.001
    assert result.coverage >= stats.binom.ppf(0.001, 100, 0.95) / 100
    assert result.none == 0
