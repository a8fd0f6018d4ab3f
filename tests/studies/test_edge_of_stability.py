import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from torch import nn

from suite.evidence import Problem
from suite.experiments.cell import Scope
from suite.experiments.edge_of_stability import EXAMPLES
from suite.statistics import Verdict, mean_interval
from suite.status import Status
from suite.studies.edge_of_stability import (
    Findings,
    analyse,
    answer,
    batch_sizes,
    cells,
    explain,
    figure,
    numbers,
)
from tests.conftest import tiny
from tests.evidence import evidence

RATES = (0.4, 0.5, 0.8)
SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds=9, processes=2, backends=("cpu",), training_backend="cpu")


def trained(batch_size: int, ends: list[float]) -> pd.DataFrame:
    """Of each seed two evaluations around the end of its λmax η / 2, at the seed's rate."""
    lines = [
        {"seed": seed, "updates": updates, "largest_eigenvalue": factor * end * 2 / rate, "learning_rate": rate}
        for seed, (end, rate) in enumerate(zip(ends, RATES, strict=True))
        for updates, factor in ((10, 0.9), (20, 1.1))
    ]
    return pd.DataFrame(lines).assign(measurement="edge_of_stability", batch_size=batch_size, status="ok")


def diverged(batch_size: int, seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    lines = [{"seed": seed, "updates": 10, "learning_rate": RATES[seed], "status": "diverged"} for seed in seeds]
    return pd.DataFrame(lines).assign(measurement="edge_of_stability", batch_size=batch_size)


def analysed(*frames: pd.DataFrame) -> Findings:
    return analyse(evidence(*frames))


def test_the_value_of_a_seed_is_the_mean_over_its_evaluations_and_their_mean_has_an_interval():
    findings = analysed(trained(4, [0.3, 0.4, 0.5]), trained(16, [0.9, 1.0, 1.1]))
    sharpness = findings.by_batch_size[4]
    assert sharpness.seeds == pytest.approx({0: 0.3, 1: 0.4, 2: 0.5})
    expected = mean_interval([0.3, 0.4, 0.5])
    assert (sharpness.mean.estimate, sharpness.mean.low) == pytest.approx((expected.estimate, expected.low))
    assert sharpness.largest_eigenvalue == pytest.approx(np.mean([1.5, 1.6, 1.25]))
    assert findings.learning_rate == pytest.approx(np.mean(RATES))
    assert list(findings.by_batch_size) == [4, 16]


@pytest.mark.parametrize(
    ("small", "large", "decided", "words"),
    [
        ([0.3, 0.4, 0.5], [0.9, 1.0, 1.1], Verdict.FAILS, "the smaller batch is at the flatter point"),
        ([0.9, 1.0, 1.1], [0.3, 0.4, 0.5], Verdict.HOLDS, "the smaller batch is at the sharper point"),
        ([0.8, 1.0, 1.2], [1.0, 1.0, 1.0], Verdict.UNDECIDED, "is undecided"),
    ],
)
def test_the_smallest_batch_size_is_compared_with_the_largest_seed_by_seed(small, large, decided, words):
    findings = analysed(trained(1, small), trained(4, [5, 6, 7]), trained(16, large))
    logs = np.log(np.array(small) / large)
    assert math.isclose(findings.small_over_large.estimate, np.exp(logs.mean()))
    assert findings.verdict == decided
    assert words in answer(findings)
    assert f"ends at {np.mean(large):.2f} with batch size 16 and at {np.mean(small):.2f} with" in answer(findings)


def test_batch_sizes_and_seeds_that_diverged_are_left_out_and_counted():
    large = trained(16, [0.9, 1.0, 1.1])
    findings = analysed(diverged(1), large[large["seed"] < 2], diverged(16, (2,)), trained(4, [0.3, 0.4, 0.5]))
    assert list(findings.by_batch_size) == [4, 16]
    assert findings.problems == (
        Problem(Status.DIVERGED, replicas=3, all_replicas=3, where="at batch size 1"),
        Problem(Status.DIVERGED, replicas=1, all_replicas=3, where="at batch size 16"),
    )
    assert findings.small_over_large.n == 2
    assert "3 of 3 seeds at batch size 1: diverged" in explain(findings)
    assert "not below that of the best constant output" in explain(findings)
    assert numbers(findings)["seeds"].tolist() == ["3", "2"]


def test_without_a_divergence_nothing_is_said_about_it():
    text = explain(analysed(trained(4, [0.3, 0.4, 0.5]), trained(16, [0.9, 1.0, 1.1])))
    assert "diverged" not in text
    assert "left out" not in text


def test_a_single_batch_size_is_not_compared():
    findings = analysed(diverged(1), trained(16, [0.9, 1.0, 1.1]))
    assert (findings.small_over_large, findings.verdict) == (None, None)
    assert answer(findings).endswith("ends at 1.00 with batch size 16; it has no value at another batch size.")
    assert "times that with" not in explain(findings)


FAILED = pd.DataFrame([{"measurement": "edge_of_stability", "status": "out_of_memory", "reason": "too much"}])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (diverged(1), "3 of 3 seeds at batch size 1: diverged"),
        (FAILED.assign(batch_size=1), "out of memory at batch size 1, too much"),
    ],
)
def test_without_a_value_the_answer_gives_the_reason_and_nothing_is_drawn(rows, reason):
    findings = analysed(rows)
    assert answer(findings) == f"The sharpness at one learning rate has no value: {reason}."
    assert explain(findings) == ""
    assert figure(findings) is None
    assert numbers(findings).empty


def test_every_seed_the_means_and_the_edge_are_drawn():
    (axes,) = figure(analysed(trained(4, [0.3, 0.4, 0.5]), trained(16, [0.9, 1.0, 1.1]))).axes
    assert axes.get_xscale() == "log"
    assert "edge of stability" in [text.get_text() for text in axes.texts]
    dots = sorted(value for line in axes.lines if line.get_marker() == "." for value in line.get_ydata())
    assert dots == pytest.approx([0.3, 0.4, 0.5, 0.9, 1.0, 1.1])
    (means,) = (line for line in axes.lines if line.get_marker() == "o")
    assert list(means.get_ydata()) == pytest.approx([0.4, 1.0])


def test_batch_sizes_near_the_largest_and_beyond_the_examples_are_not_trained():
    scope = replace(SCOPE, training_batch_sizes=(1, 4, 16, 64, 256, 1024, 1437))
    assert batch_sizes(scope) == [1, 4, 16, 64, EXAMPLES]
    assert batch_sizes(SCOPE) == [1, 16]


def test_the_cells_have_few_seeds_and_one_batch_size_each():
    planned = cells(tiny(), SCOPE)
    assert [(cell.batch_size, cell.repeats) for cell in planned] == [(1, 3), (16, 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": lambda outputs, targets: nn.functional.mse_loss(outputs[:, 0], targets, reduction="none")},
        {"claims": ("sharpness",)},
    ],
    ids=["targets are not class numbers", "trains too slowly"],
)
def test_a_workload_that_is_unfit_has_no_cells(changes):
    assert cells(tiny(**changes), SCOPE) == []
