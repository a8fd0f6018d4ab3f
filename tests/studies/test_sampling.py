from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.statistics import Verdict, mean_interval
from suite.studies.decay_or_grow import CONSTANT, DECAY
from suite.studies.sampling import REPLACED, RESHUFFLED, analyse, protocols, study
from tests.conftest import tiny
from tests.evidence import FACTS, evidence
from tests.studies.test_decay_or_grow import SCOPE, trained


def trainings(replaced: list[float], size: int = 1) -> list[pd.DataFrame]:
    """Reshuffled trainings end at a loss of 1; with replacement those at a fixed rate end at `replaced`, and those at
    a decaying rate neither lower nor higher."""
    by_name = protocols(FACTS)
    return [
        trained(by_name[CONSTANT, RESHUFFLED], [1.0] * 4, size),
        trained(by_name[CONSTANT, REPLACED], replaced, size),
        trained(by_name[DECAY, RESHUFFLED], [1.0] * 4, size),
        trained(by_name[DECAY, REPLACED], [0.5, 2.0, 0.5, 2.0], size),
    ]


@pytest.mark.parametrize(
    ("losses", "verdict", "text"),
    [
        ([1.5, 1.51, 1.52, 1.53], Verdict.HOLDS, "higher in 1 of 2 comparisons (×1.51 at batch size 1, fixed rate)"),
        ([0.5, 0.51, 0.52, 0.53], Verdict.FAILS, "lower in 1 of 2 comparisons (×0.515 at batch size 1, fixed rate)"),
        ([0.6, 1.7, 0.6, 1.7], Verdict.UNDECIDED, "Neither"),
    ],
)
def test_reshuffled_and_replaced_are_compared_in_pairs(losses, verdict, text):
    findings = analyse(evidence(*trainings(losses)))
    fixed, decaying = findings.pairs
    assert (fixed.batch_size, fixed.rate, decaying.rate) == (1, CONSTANT, DECAY)
    assert fixed.loss_ratio.estimate == pytest.approx(np.exp(np.log(losses).mean()))
    assert fixed.loss_ratio == mean_interval(np.log(losses)).map(np.exp)
    assert (fixed.reshuffled_lower, decaying.reshuffled_lower) == (verdict, Verdict.UNDECIDED)
    assert decaying.loss_ratio.estimate == pytest.approx(1)
    assert findings.unpaired == ()
    assert text in study.answer(findings)
    assert f"{np.exp(np.log(losses).mean()):.3f}" in study.explain(findings)
    assert "Holm's correction" in study.explain(findings)


def test_trainings_that_cannot_be_compared_are_named_with_the_reason():
    """At batch size 1 with a fixed rate one seed diverged; at 4 nothing was measured at either rate."""
    rows = trainings([1.5, 1.51, 1.52, 1.53])
    rows[1].loc[rows[1]["seed"] == 2, "status"] = "diverged"
    failure = {"batch_size": 4, "status": "out_of_memory", "reason": "too much"}
    failures = pd.DataFrame([failure | {"protocol": protocol.key} for protocol in protocols(FACTS).values()])
    findings = analyse(evidence(*rows, failures))
    (pair,) = findings.pairs
    assert (pair.batch_size, pair.rate) == (1, DECAY)
    assert pair.loss_ratio.estimate == pytest.approx(1)
    assert [(unpaired.batch_size, unpaired.rate) for unpaired in findings.unpaired] == [
        (1, CONSTANT),
        (4, CONSTANT),
        (4, DECAY),
    ]
    texts = [str(unpaired) for unpaired in findings.unpaired]
    assert texts[0] == "batch size 1, fixed rate (1 of 4 seeds with replacement: diverged)"
    reason = "(out of memory reshuffled, too much; out of memory with replacement, too much)"
    assert all(text.endswith(reason) for text in texts[1:])
    assert all(text in study.explain(findings) for text in texts)
    none = analyse(evidence(failures))
    assert none.pairs == ()
    assert "cannot be compared" in study.answer(none)
    assert study.answer(none).count(reason) == 2
    assert study.explain(none) == ""
    assert study.figure(none) is None


def test_a_single_significant_ratio_may_not_stand_holms_correction():
    """p = 0.03 of one of two ratios."""
    losses = np.exp([0.3, 0.8, 1.7, 1.2])
    p_value = stats.ttest_1samp(np.log(losses), 0).pvalue
    assert 0.025 < p_value < 0.05
    fixed, _ = analyse(evidence(*trainings(list(losses)))).pairs
    assert fixed.p_value == pytest.approx(2 * p_value)
    assert fixed.reshuffled_lower == Verdict.UNDECIDED


def test_the_figure_has_the_losses_of_the_smallest_batch_size_and_the_ratio_of_every_pair():
    rows = [*trainings([1.5, 1.51, 1.52, 1.53], 1), *trainings([1.5, 1.51, 1.52, 1.53], 4)]
    findings = analyse(evidence(*rows))
    left, right = study.figure(findings).axes
    assert left.get_title() == "batch size 1"
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "reshuffled, fixed rate",
        "with replacement, fixed rate",
        "reshuffled, decaying rate",
        "with replacement, decaying rate",
    ]
    assert len(left.lines) == 4
    assert [label.get_text() for label in right.get_yticklabels()] == [
        "batch size 1\nfixed rate",
        "batch size 1\ndecaying rate",
        "batch size 4\nfixed rate",
        "batch size 4\ndecaying rate",
    ]
    assert findings.pairs[0].losses[REPLACED][3] == pytest.approx(np.exp(np.log([1.5, 1.51, 1.52, 1.53]).mean()))


def test_without_rows_nothing_is_drawn():
    findings = analyse(evidence(trainings([1.0] * 4)[0].assign(protocol="another")))
    assert study.figure(findings) is None
    assert "not measured" in study.answer(findings)


def test_in_a_single_epoch_the_rate_cannot_decay():
    assert study.cells(tiny(epochs=1), SCOPE) == []
    single = replace(evidence(*trainings([1.5] * 4)), facts=replace(FACTS, epochs=1))
    assert analyse(single).pairs == ()


def test_both_ways_of_sampling_are_trained_at_small_and_the_middle_batch_size_in_a_factorial_scope_alone():
    cells = study.cells(tiny(), SCOPE)
    assert {cell.batch_size for cell in cells} == {1, 4}
    assert sum(cell.protocol.with_replacement for cell in cells) == len(cells) // 2 == 4
    assert study.cells(tiny(), replace(SCOPE, factorial=False)) == []
