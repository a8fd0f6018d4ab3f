import math

import pandas as pd
import pytest

from suite.claims import gradient
from suite.claims.gradient import AtStage
from suite.evidence import Problem
from suite.experiments.gradient_noise import STAGES
from suite.status import Status
from tests.evidence import FACTS, evidence, without_rows

TOO_MUCH = Problem(Status.OUT_OF_MEMORY, "it was too much")


def noise_rows(by_stage: dict[str, dict[int, list[float]]]) -> pd.DataFrame:
    lines = [
        {"stage": stage, "batch_size": size, "seed": seed, "relative_noise": value, "status": "ok"}
        for stage, by_size in by_stage.items()
        for size, values in by_size.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(lines).assign(measurement="gradient_noise", protocol="p")


def variance_rows(deviations: list[float]) -> pd.DataFrame:
    """At both stages, per seed, a gradient of norm 2 and √tr(Σ) as in `deviations`."""
    lines = [
        {"stage": stage, "seed": seed, "gradient_norm": 2.0, "variance": deviation**2}
        for stage in STAGES
        for seed, deviation in enumerate(deviations)
    ]
    return pd.DataFrame(lines).assign(measurement="gradient_variance", batch_size=0, status="ok")


def test_it_holds_with_the_lower_ratio_of_both_stages():
    before = {1: [8.0, 8.8, 7.2], 16: [2.0, 2.2, 1.8]}
    after = {1: [9.0, 9.9, 8.1], 16: [3.0, 3.3, 2.7]}
    findings = gradient.analyse(evidence(noise_rows({STAGES[0]: before, STAGES[1]: after})))
    (row,) = gradient.judge(findings)
    assert findings.stage == STAGES[1]
    assert row.verdict == "holds"
    assert row.flags == (AtStage(STAGES[1]),)
    assert math.isclose(row.effect.estimate, 3)
    assert math.isclose(row.value_small, (9.0 * 9.9 * 8.1) ** (1 / 3))
    assert "3.00 times as noisy" in gradient.answer(findings)


def test_it_fails_where_the_large_batch_is_noisier():
    values = {1: [1.0, 1.1, 0.9], 16: [3.0, 3.2, 2.9]}
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)))))
    assert row.verdict == "fails"


def test_it_is_undecided_where_seeds_disagree():
    values = {1: [1.0, 4.0, 1.0], 16: [2.0, 1.0, 1.0]}
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)))))
    assert row.verdict == "undecided"


def test_a_noise_that_was_not_measured_has_its_reason():
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much")
    findings = gradient.analyse(evidence(absent))
    (row,) = gradient.judge(findings)
    assert findings.comparison == TOO_MUCH
    assert (row.status, row.verdict, row.flags) == ("out_of_memory", None, (TOO_MUCH,))
    assert "it was too much" in gradient.answer(findings)
    assert gradient.explain(findings) == ""


def test_a_large_batch_alone_that_was_not_measured_leaves_no_verdict():
    values = {1: [1.0, 1.1, 0.9], 4: [0.5, 0.6, 0.4]}
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much", (16,))
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), absent)))
    assert (row.status, row.verdict, row.flags) == ("out_of_memory", None, (TOO_MUCH,))


def test_a_batch_size_in_between_that_was_not_measured_does_not_matter():
    values = {1: [8.0, 8.8, 7.2], 16: [2.0, 2.2, 1.8]}
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much", (4,))
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), absent)))
    assert (row.status, row.verdict) == ("ok", "holds")
    assert math.isclose(row.effect.estimate, 4)


def test_one_seed_is_undecided():
    values = {1: [8.0], 16: [2.0]}
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)))))
    assert (row.verdict, row.effect.n) == ("undecided", 1)
    assert math.isclose(row.effect.estimate, 4)


def test_the_theory_follows_from_the_variance():
    values = {size: [3.0] for size in (1, 10, 16)}
    findings = gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), variance_rows([3.0])))
    stage = findings.stages[STAGES[0]]
    assert FACTS.train_examples == 40
    assert math.isclose(stage.theory[10], math.sqrt(9 / 10 * (1 - 10 / 40)) / 2)
    assert math.isclose(stage.deviation, 1.5)
    quotients = [3.0 / stage.theory[size] for size in values]
    assert math.isclose(stage.sampled_over_theory, sum(quotients) / 3)


def test_the_noise_scale_is_the_geometric_mean_over_seeds():
    values = {1: [8.0, 8.8], 16: [2.0, 2.2]}
    findings = gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), variance_rows([4.0, 8.0])))
    scale = findings.stages[STAGES[1]].noise_scale
    assert math.isclose(scale.estimate, math.sqrt(2**2 * 4**2))
    assert scale.n == 2
    assert findings.no_variance == ()
    assert "gradient noise scale is 8.00" in gradient.explain(findings)


@pytest.mark.filterwarnings("error")
def test_without_the_gradients_of_single_examples_there_is_no_theory_and_the_sampled_noise_is_still_shown():
    values = {1: [1.0, 1.1, 0.9], 16: [0.3, 0.32, 0.29]}
    failed = {"measurement": "gradient_variance", "batch_size": 0, "status": "out_of_memory", "reason": "too much"}
    findings = gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), pd.DataFrame([failed])))
    text = gradient.explain(findings)
    assert "The gradient noise scale has no value here (out of memory, too much)." in text
    assert "nan" not in text
    assert findings.stages[STAGES[0]].theory == {}
    assert set(gradient.numbers(findings)[f"theory, {STAGES[0]}"]) == {"–"}
    (label,) = gradient.figure(findings).axes[0].get_legend().get_texts()
    assert label.get_text() == "sampled batches, each seed"
