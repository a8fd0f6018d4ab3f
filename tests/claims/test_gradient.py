import math

import pandas as pd
import pytest

from suite.claims import gradient
from suite.instruments.gradient_noise import STAGES
from tests.claims.evidence import FACTS, evidence, without_rows


def noise_rows(by_stage: dict[str, dict[int, list[float]]]) -> pd.DataFrame:
    lines = [
        {"stage": stage, "batch_size": size, "seed": seed, "relative_noise": value, "status": "ok"}
        for stage, by_size in by_stage.items()
        for size, values in by_size.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(lines).assign(measurement="gradient_noise", protocol="p")


def test_it_holds_with_the_lesser_ratio_of_both_stages():
    before = {1: [8.0, 8.8, 7.2], 16: [2.0, 2.2, 1.8]}
    after = {1: [9.0, 9.9, 8.1], 16: [3.0, 3.3, 2.7]}
    (row,) = gradient.judge(evidence(noise_rows({STAGES[0]: before, STAGES[1]: after})))
    assert row.verdict == "holds"
    assert row.flags == STAGES[1]
    assert math.isclose(row.effect, 3)
    assert math.isclose(row.value_small, (9.0 * 9.9 * 8.1) ** (1 / 3))


def test_it_fails_where_the_large_batch_is_noisier():
    values = {1: [1.0, 1.1, 0.9], 16: [3.0, 3.2, 2.9]}
    (row,) = gradient.judge(evidence(noise_rows(dict.fromkeys(STAGES, values))))
    assert row.verdict == "fails"


def test_it_is_undecided_where_seeds_disagree():
    values = {1: [1.0, 4.0, 1.0], 16: [2.0, 1.0, 1.0]}
    (row,) = gradient.judge(evidence(noise_rows(dict.fromkeys(STAGES, values))))
    assert row.verdict == "undecided"


def test_what_was_not_measured_has_its_reason():
    (row,) = gradient.judge(evidence(without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much")))
    assert (row.status, row.verdict, row.flags) == ("out_of_memory", "", "it was too much")


def test_a_large_batch_alone_that_was_not_measured_leaves_no_verdict():
    values = {1: [1.0, 1.1, 0.9], 4: [0.5, 0.6, 0.4]}
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much", (16,))
    (row,) = gradient.judge(evidence(noise_rows(dict.fromkeys(STAGES, values)), absent))
    assert (row.status, row.verdict, row.flags) == ("out_of_memory", "", "it was too much")


def test_a_batch_size_in_between_that_was_not_measured_does_not_matter():
    values = {1: [8.0, 8.8, 7.2], 16: [2.0, 2.2, 1.8]}
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much", (4,))
    (row,) = gradient.judge(evidence(noise_rows(dict.fromkeys(STAGES, values)), absent))
    assert (row.status, row.verdict) == ("ok", "holds")
    assert math.isclose(row.effect, 4)


def test_one_seed_is_undecided():
    values = {1: [8.0], 16: [2.0]}
    (row,) = gradient.judge(evidence(noise_rows(dict.fromkeys(STAGES, values))))
    assert (row.verdict, row.seeds) == ("undecided", 1)
    assert math.isclose(row.effect, 4)


def test_the_theory_line_goes_through_the_variance():
    variance = pd.DataFrame({"seed": [0], "stage": [STAGES[0]], "gradient_norm": [2.0], "variance": [9.0]})
    rows = variance.assign(measurement="gradient_variance", status="ok")
    line = gradient.theory(rows, STAGES[0], batch_size=10, examples=FACTS.train_examples)
    assert math.isclose(line[0], math.sqrt(9 / 10 * (1 - 10 / 40)) / 2)


@pytest.mark.filterwarnings("error")
def test_without_the_gradients_of_single_examples_there_is_no_theory_and_its_noise_is_still_told():
    values = {1: [1.0, 1.1, 0.9], 16: [0.3, 0.32, 0.29]}
    failed = {"measurement": "gradient_variance", "batch_size": 0, "status": "out_of_memory", "reason": "too much"}
    found = evidence(noise_rows(dict.fromkeys(STAGES, values)), pd.DataFrame([failed]))
    said = gradient.explain(found, gradient.judge(found))
    assert "The noise scale at the same parameters has no value (out of memory, too much)." in said
    assert "nan" not in said
    assert set(gradient.numbers(found)[f"theory, {STAGES[0]}"]) == {"–"}
    (label,) = gradient.draw(found).axes[0].get_legend().get_texts()
    assert label.get_text() == "sampled batches, each seed"
