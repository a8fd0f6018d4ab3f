import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from suite.claims import Row, gradient
from suite.claims.gradient import LEAST_POWER, TOO_FEW, AtStage
from suite.evidence import Evidence, Facts, Problem
from suite.experiments.cell import Scope
from suite.experiments.gradient_noise import STAGES
from suite.formatting import three_digits
from suite.status import Status
from suite.workloads import Data
from tests.conftest import blobs, tiny
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


def falling(power: float, deviations: list[float], sizes: tuple[int, ...] = (1, 4, 16)) -> dict[int, list[float]]:
    """Noise that falls with `power` over B (N − 1) / (N − B) from the `deviations` of each seed's single examples."""
    return {
        size: [deviation / (size * 39 / (40 - size)) ** power if size < 40 else 0.0 for deviation in deviations]
        for size in sizes
    }


def judged(by_stage: dict[str, dict[int, list[float]]]) -> Row:
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(by_stage))))
    return row


def test_the_row_has_the_lower_power_of_both_stages():
    by_stage = {STAGES[0]: falling(0.5, [8.0, 9.0, 7.0]), STAGES[1]: falling(0.45, [3.0, 4.0, 2.0])}
    findings = gradient.analyse(evidence(noise_rows(by_stage)))
    (row,) = gradient.judge(findings)
    assert findings.stage == STAGES[1]
    assert row.verdict == "holds"
    assert row.flags == (AtStage(STAGES[1]),)
    assert row.effect.estimate == pytest.approx(0.45)
    assert row.value_small == pytest.approx(3.0)
    assert row.effect_text == "1 / B^0.450 (0.450 to 0.450)"
    ratio = three_digits((16 * 39 / 24) ** 0.45)
    assert f"The small batch is {ratio} times as noisy." in gradient.explain(findings)
    assert "falls like 1 / B^0.450" in gradient.answer(findings)


@pytest.mark.parametrize(
    ("powers", "verdict"),
    [((0.49, 0.5, 0.51), "holds"), ((0.1, 0.2, 0.15), "fails"), ((0.3, 0.5, 0.45), "undecided")],
)
def test_the_power_is_judged_against_the_least_power_though_the_small_batch_is_noisier_throughout(powers, verdict):
    seeds = [falling(power, [1.0]) for power in powers]
    values = {size: [seed[size][0] for seed in seeds] for size in (1, 4, 16)}
    row = judged(dict.fromkeys(STAGES, values))
    assert (row.verdict, row.null) == (verdict, LEAST_POWER)
    assert row.effect.estimate == pytest.approx(sum(powers) / 3)
    assert row.value_small > row.value_large


def test_it_fails_where_noise_falls_too_slowly_after_a_tenth_of_training_alone():
    by_stage = {STAGES[0]: falling(0.5, [8.0, 9.0]), STAGES[1]: falling(0.1, [3.0, 4.0])}
    assert judged(by_stage).verdict == "fails"


def test_the_full_batch_is_no_part_of_the_power():
    """It has no noise."""
    row = judged(dict.fromkeys(STAGES, falling(0.5, [8.0, 9.0, 7.0], (1, 4, 16, 40))))
    assert row.effect.estimate == pytest.approx(0.5)


def test_one_batch_size_below_the_full_batch_has_no_power():
    facts = replace(FACTS, large=40)
    frame = noise_rows(dict.fromkeys(STAGES, falling(0.5, [8.0, 9.0], (1, 40)))).assign(backend="cpu")
    findings = gradient.analyse(Evidence.from_frames(facts, [frame]))
    (row,) = gradient.judge(findings)
    assert (row.verdict, row.flags) == (None, (TOO_FEW,))
    assert "fewer than two batch sizes" in gradient.answer(findings)


def in_order(examples: int, *_) -> torch.Tensor:
    """The indices of an epoch that is not shuffled."""
    return torch.arange(examples)


def sorted_by_class() -> Data:
    data = blobs(400)
    order = data.train_targets.argsort(stable=True)
    return Data(data.train_inputs[order], data.train_targets[order], data.test_inputs, data.test_targets)


@pytest.mark.parametrize(("shuffled", "verdict"), [(True, "holds"), (False, "fails")])
def test_batches_in_the_order_of_classes_fail_and_shuffled_ones_hold(shuffled, verdict, monkeypatch):
    """Measured through the training's own epochs, whose shuffling is left out."""
    if not shuffled:
        monkeypatch.setattr("suite.training.epoch.epoch_indices", in_order)
    workload = tiny(load=sorted_by_class, resplit=False, batch_sizes=(1, 4, 16, 64), large=64)
    scope = Scope((1, 4, 16, 64), (1, 4, 16, 64), (1, 4, 16, 64), 4, 2, ("cpu",), training_backend="cpu")
    data = workload.load()
    frames = [
        cell.measurement.measure(workload, data, cell).assign(**cell.describe())
        for cell in gradient.cells(workload, scope)
    ]
    findings = gradient.analyse(Evidence.from_frames(Facts.of(workload, data), frames))
    (row,) = gradient.judge(findings)
    assert row.verdict == verdict
    of_theory = [stage.sampled_over_theory for stage in findings.stages.values()]
    assert all(abs(interval.estimate - 1) < 0.05 for interval in of_theory) == shuffled
    assert (abs(row.effect.estimate - 0.5) < 0.03) == shuffled


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
    values = falling(0.5, [8.0, 8.8, 7.2], (1, 16))
    absent = without_rows("gradient_noise", "cpu", "out_of_memory", "it was too much", (4,))
    (row,) = gradient.judge(gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), absent)))
    assert (row.status, row.verdict) == ("ok", "holds")
    assert math.isclose(row.effect.estimate, 0.5)


def test_one_seed_is_undecided():
    row = judged(dict.fromkeys(STAGES, falling(0.5, [8.0])))
    assert (row.verdict, row.effect.n) == ("undecided", 1)
    assert math.isclose(row.effect.estimate, 0.5)


def test_the_theory_follows_from_the_variance():
    values = {size: [3.0] for size in (1, 10, 16)}
    findings = gradient.analyse(evidence(noise_rows(dict.fromkeys(STAGES, values)), variance_rows([3.0])))
    stage = findings.stages[STAGES[0]]
    assert FACTS.train_examples == 40
    assert math.isclose(stage.theory[10], math.sqrt(9 / 10 * (1 - 10 / 40)) / 2)
    assert math.isclose(stage.deviation, 1.5)
    squares = [(3.0 / stage.theory[size]) ** 2 for size in values]
    assert math.isclose(stage.sampled_over_theory.estimate, math.sqrt(sum(squares) / 3))


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
