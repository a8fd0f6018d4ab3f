import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from suite.claims.momentum_speed_up import analyse as analyse_speed_up
from suite.claims.momentum_speed_up import claim as momentum_speed_up
from suite.claims.noise_scale import (
    AVERAGED,
    CRITICAL,
    EFFECTIVE,
    INITIAL,
    LABELS,
    MEAN,
    TheoryOfSgd,
    analyse,
    claim,
    examples,
    judge,
)
from suite.evidence import Evidence, Facts, Problem
from suite.evidence.tuned_trainings import averaged_protocol, course_batch_size, last_iterate_protocol
from suite.evidence.tuned_updates import NeverReached
from suite.experiments.cell import Scope
from suite.optimizers import adamw, sgd
from suite.statistics import mean_interval
from suite.training.momentum_pair import WITHOUT
from suite.workloads import find as find_workload
from suite.workloads.workload import PublishedNoise
from tests.conftest import blobs, tiny
from tests.evidence import FACTS, evidence

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds=12, processes=9, backends=("cpu",), training_backend="cpu")
PUBLISHED = PublishedNoise("Somebody 2018", noise_scale=(50, 900), critical_batch_size=(20, 200))


def courses(scales_of_seeds: list[list[float]], status: str = "ok", on_edge: bool = False) -> pd.DataFrame:
    """Noise scales of each seed after 0, 1, 2, ... updates with batch size 4; the loss falls by half each time and
    crosses the target of 0.5 at the last."""
    frames = []
    for seed, scales in enumerate(scales_of_seeds):
        updates = np.arange(len(scales))
        loss = 0.5 * 2.0 ** (updates[-1] - updates)
        frames.append(pd.DataFrame({"updates": updates, "train_loss": loss, "noise_scale": scales}).assign(seed=seed))
    rows = pd.concat(frames).assign(measurement="noise_scale", batch_size=4, status=status, learning_rate=0.2)
    (course,) = [cell for cell in claim.cells(tiny(), SCOPE) if cell.measurement.name == "noise_scale"]
    return rows.assign(protocol=course.protocol.key, on_edge=on_edge)


def tuned(critical: list[float], min_updates: float = 10, protocol=last_iterate_protocol) -> pd.DataFrame:
    """Of each seed, tuned trainings that cross the target after S (1 + b / B) updates, b being `critical`."""
    lines = [
        {"batch_size": size, "seed": seed, "updates": updates, "train_loss": loss, "stage": "final"}
        for size in (1, 4, 16)
        for seed, scale in enumerate(critical)
        for updates, loss in ((0, 1.0), (min_updates * (1 + scale / size), 0.5))
    ]
    rows = pd.DataFrame(lines).assign(measurement="tuned_training", status="ok", learning_rate=0.1)
    return rows.assign(protocol=protocol(FACTS).key)


def missing_the_target(rows: pd.DataFrame, seed: int, batch_sizes: tuple[int, ...]) -> pd.DataFrame:
    """The trainings `rows`, of which those of a seed with `batch_sizes` never reach the target."""
    missed = (rows["seed"] == seed) & rows["batch_size"].isin(batch_sizes)
    rows.loc[missed, "train_loss"] = 0.9
    rows.loc[missed, "status"] = "target_not_reached"
    return rows


def test_noise_scales_are_geometric_means_over_seeds():
    findings = analyse(evidence(courses([[8, 8, 8, 8], [2, 2, 2, 2]])))
    course, values = findings.course, examples(findings)
    assert all(math.isclose(values[name].estimate, 4) for name in (INITIAL, MEAN, EFFECTIVE))
    assert values[INITIAL].n == 2
    assert CRITICAL not in values
    assert course.mean_noise_scales == {updates: pytest.approx(4) for updates in range(4)}


def test_each_seed_is_weighted_along_its_own_training():
    """Shares of 1/2, 1/3 and 1/5 of an update at batch size 4: 31/30 updates, and 4 (3 - 31/30) examples."""
    seeds = analyse(evidence(courses([[4, 8, 16, 99], [4, 4, 4, 4]]))).course.seeds
    assert seeds[0].updates_to_target == 3
    assert seeds[0].initial == 4
    assert math.isclose(seeds[0].effective, 4 * (3 / (31 / 30) - 1))
    assert math.isclose(seeds[0].mean, 28 / 3)
    assert math.isclose(seeds[1].effective, 4)
    assert seeds[0].noise_scales == {0: 4, 1: 8, 2: 16, 3: 99}


def test_the_mean_over_seeds_ends_where_the_first_seed_reaches_the_target():
    course = analyse(evidence(courses([[8, 8, 8, 8], [2, 2]]))).course
    assert list(course.mean_noise_scales) == [0, 1]
    assert course.updates_to_target == (3 + 1) / 2


def test_the_critical_batch_size_is_that_of_the_tuned_trainings_alone():
    """The training along which the noise scale is measured has another protocol."""
    measured = analyse(evidence(courses([[8, 8, 8], [8, 8, 8]]), tuned([6, 6, 6]))).last_iterate.critical
    assert math.isclose(measured.interval.estimate, 6, rel_tol=1e-4)
    assert measured.interval.n == 3


def test_a_seed_that_never_reaches_the_target_with_a_batch_size_counts_as_infinite():
    """The third seed is the slowest with each batch size, so that the medians are those of the second."""
    findings = analyse(evidence(courses([[8, 8, 8]]), missing_the_target(tuned([3, 6, 12]), 2, (16,))))
    critical = findings.last_iterate.critical
    assert math.isclose(critical.interval.estimate, 6, rel_tol=1e-4)
    assert critical.interval.n == 3
    row, second = judge(findings)
    assert row.flags == (NeverReached(1, 3, "at batch size 16"),)
    assert second.flags == (Problem("unavailable", "not measured"),)
    assert (
        "Of the trainings, 1 of 3 seeds at batch size 16 never reached the target and count as infinite."
        in claim.explain(findings)
    )


def test_the_critical_batch_size_of_averaged_parameters_is_that_of_momentum_speed_up():
    rows = evidence(courses([[8, 8, 8]]), tuned([3, 5, 6, 7, 9, 12, 40], protocol=averaged_protocol))
    critical = analyse(rows).averaged.critical
    assert critical == analyse_speed_up(rows).updates[WITHOUT].critical_batch
    assert critical.interval.low < critical.interval.estimate < critical.interval.high


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (tuned([6, 6]).assign(stage="trial"), "not measured"),
        (tuned([6, 6]).query("batch_size > 1"), "fewer than three batch sizes were trained to the target"),
        (
            missing_the_target(tuned([6, 6]), 1, (4,)),
            "more than half of the seeds reached the target at fewer than three batch sizes",
        ),
    ],
)
def test_without_three_batch_sizes_that_most_seeds_reached_the_target_with_there_is_no_verdict(rows, problem):
    findings = analyse(evidence(courses([[8, 8, 8]]), rows))
    row, _ = judge(findings)
    assert row.verdict is None
    assert str(row.flags[0]) == problem
    assert CRITICAL not in examples(findings)
    assert claim.answer(findings) == (
        "The critical batch size is 8.00 examples as predicted from the gradient noise scale. Prediction and "
        f"measurement cannot be compared: {problem}."
    )


def test_averaged_parameters_are_a_second_reading():
    averaged = tuned([4] * 6, protocol=averaged_protocol)
    findings = analyse(evidence(courses([[8, 8, 8], [8, 8, 8]]), tuned([8] * 6), averaged))
    headline, second = judge(findings)
    assert (headline.headline, second.headline) == (True, False)
    assert second.effect.estimate == pytest.approx(0.5)
    assert [str(flag) for flag in headline.flags] == ["with averaged parameters ×0.500 (×0.500 to ×0.500)"]
    assert examples(findings)[AVERAGED].estimate == pytest.approx(4, rel=1e-3)
    assert "B_crit is 4.00 (4.00 to 4.00)" in claim.explain(findings)


SPREAD = np.exp(np.linspace(-0.05, 0.05, 7))


@pytest.mark.parametrize(
    ("critical", "verdict"),
    [
        (8.0, "holds"),
        (12.0, "holds"),
        (5.5, "holds"),
        (16.0, "undecided"),
        (4.0, "undecided"),
        (40.0, "fails"),
        (1.0, "fails"),
    ],
)
def test_the_ratio_of_measured_over_predicted_is_judged_within_a_factor_of_two(critical, verdict):
    """Trainings with constant noise scales around 8, and others that show a critical batch size around `critical`."""
    findings = analyse(evidence(courses([[8 * factor] * 4 for factor in SPREAD]), tuned(list(critical * SPREAD))))
    row, _ = judge(findings)
    assert row.verdict == verdict
    assert row.effect.estimate == pytest.approx(critical / 8, rel=1e-3)
    assert (row.value_small, row.value_large) == pytest.approx((8, critical), rel=1e-3)
    assert (row.unit, row.factor, row.null) == ("examples", 2, 1)


def test_the_interval_of_the_ratio_has_the_errors_of_both_sides():
    places = np.linspace(-1, 1, 9)

    def width(course_spread: float, tuned_spread: float) -> float:
        scales = [[8 * math.exp(course_spread * place)] * 4 for place in places]
        measured = [8 * math.exp(tuned_spread * place) for place in places]
        row, _ = judge(analyse(evidence(courses(scales), tuned(measured))))
        return math.log(row.effect.high / row.effect.low)

    of_course, of_trainings = width(0.1, 0), width(0, 0.1)
    logs = mean_interval(0.1 * places)
    assert of_course == pytest.approx(logs.high - logs.low, rel=1e-3)
    assert of_trainings > of_course
    assert width(0.1, 0.1) == pytest.approx(math.hypot(of_course, of_trainings), rel=0.01)


def test_fewer_than_six_seeds_leave_the_verdict_undecided():
    row, _ = judge(analyse(evidence(courses([[8, 8, 8]] * 5), tuned([8, 8, 8, 8, 8]))))
    assert row.effect.estimate == pytest.approx(1, rel=1e-3)
    assert row.verdict == "undecided"


def test_figure_and_text_compare_prediction_and_measurement():
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]]), tuned([6, 6, 6])))
    text = claim.explain(findings)
    assert "the noise scale is measured along a training with batch size 4." in text
    assert "fitted to the median number of updates to the target at each batch size, over 3 seeds" in text
    assert "never reached" not in text
    assert "Somebody" not in text
    assert "4.00" in claim.answer(findings)
    assert "6.00" in claim.answer(findings)
    (axes,) = claim.figure(findings).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [LABELS[name] for name in (INITIAL, MEAN, EFFECTIVE, CRITICAL)]


def test_published_values_stand_beside_the_quantities_that_they_are_of():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    findings = analyse(Evidence(facts, evidence(courses([[9, 9, 9], [9, 9, 9]]), tuned([6, 6, 6])).rows))
    (axes,) = claim.figure(findings).axes
    diamonds = next(line for line in axes.lines if line.get_label() == "Somebody 2018")
    assert list(zip(*diamonds.get_data(), strict=True)) == [(50, 0), (900, 1), (200, 3)]
    assert "Somebody 2018 has a noise scale of 50 at initialisation and 900 on average" in claim.explain(findings)


def test_published_values_are_named_where_nothing_has_a_value():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    findings = analyse(Evidence(facts, evidence(courses([[9, 9]], "diverged")).rows))
    assert isinstance(findings.course, Problem)
    assert claim.figure(findings) is None
    assert "cannot be compared: 1 of 1 seeds: diverged" in claim.answer(findings)
    text = claim.explain(findings)
    assert text.startswith("Somebody 2018 has a noise scale of 50 at initialisation and 900 on average")
    assert text.endswith("depends on where the training stops.")


def test_facts_survive_being_stored():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    assert Facts.from_dict(facts.to_dict()) == facts
    without = facts.to_dict()
    del without["published_noise"], without["published_noise_by"]
    assert Facts.from_dict(without) == replace(facts, published_noise={}, published_noise_by="")


FAILED = pd.DataFrame(
    [
        {
            "measurement": "noise_scale",
            "batch_size": 4,
            "protocol": "p",
            "learning_rate": 0.1,
            "status": "out_of_memory",
            "reason": "too much",
        }
    ]
)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (courses([[8, 8], [8, 8]], status="target_not_reached"), "2 of 2 seeds: target not reached"),
        (courses([[8, 8]], status="diverged"), "1 of 1 seeds: diverged"),
        (FAILED, "too much"),
    ],
)
def test_without_a_value_nothing_is_drawn_and_one_sentence_gives_the_reason(rows, reason):
    findings = analyse(evidence(rows))
    assert claim.figure(findings) is None
    assert claim.answer(findings) == f"Prediction and measurement cannot be compared: {reason}."
    assert claim.explain(findings) == ""


def test_without_a_planned_training_nothing_is_drawn():
    findings = analyse(evidence(tuned([6, 6]).assign(noise_scale=8.0)))
    assert isinstance(findings.course, Problem)
    assert claim.figure(findings) is None
    assert "not measured" in claim.answer(findings)
    assert claim.explain(findings) == ""


def test_seeds_that_missed_the_target_are_counted():
    missed = courses([[9, 9], [9, 9]], "target_not_reached").assign(seed=lambda rows: rows["seed"] + 2)
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]]), missed))
    assert list(findings.course.seeds) == [0, 1]
    assert math.isclose(findings.course.initial.estimate, 4)
    assert "Seeds without a value are left out (2 of 4 seeds: target not reached)." in claim.explain(findings)


@pytest.mark.parametrize("optimizer", [sgd(momentum=0.9), adamw()], ids=str)
def test_the_text_names_sgd_where_the_workload_is_trained_otherwise(optimizer):
    rows = evidence(courses([[8, 8, 8], [2, 2, 2]])).rows
    assert "SGD" not in claim.explain(analyse(Evidence(FACTS, rows)))
    row, _ = judge(analyse(Evidence(replace(FACTS, optimizer=optimizer), rows)))
    assert row.flags[-1] == TheoryOfSgd(optimizer.label)
    assert f"SGD without momentum, the trainings are with {optimizer.label}" in str(row.flags[-1])
    assert {cell.protocol.optimizer for cell in claim.cells(tiny(optimizer=optimizer), SCOPE)} == {optimizer}


def test_the_tuned_trainings_are_those_of_momentum_speed_up():
    workload = tiny(batch_sizes=(1, 2, 4, 8, 16))
    scope = replace(SCOPE, coarse_batch_sizes=(1, 2, 4, 8, 16), training_batch_sizes=(1, 2, 4, 8, 16))
    _, *tuned_cells = claim.cells(workload, scope)
    averaged = [cell for cell in tuned_cells if cell.protocol == averaged_protocol(workload)]
    assert set(averaged) < set(momentum_speed_up.cells(workload, scope))
    assert {cell.batch_size for cell in averaged} == {1, 8, 16}


@pytest.mark.parametrize("optimizer", [sgd(), sgd(momentum=0.9), adamw()], ids=str)
def test_momentum_speed_up_trains_the_last_iterate_of_the_same_cell_at_large(optimizer):
    workload = tiny(optimizer=optimizer)
    protocol = last_iterate_protocol(workload)
    (shared,) = {cell for cell in claim.cells(workload, SCOPE) if cell.protocol == protocol} & set(
        momentum_speed_up.cells(workload, SCOPE)
    )
    assert (shared.batch_size, shared.repeats) == (16, 10)


def test_a_third_batch_size_is_trained_where_momentum_speed_up_has_two():
    assert [cell.batch_size for cell in claim.cells(tiny(), SCOPE)] == [4, 1, 4, 16, 1, 4, 16]
    two = replace(SCOPE, batch_sizes=(1, 16), coarse_batch_sizes=(1, 16), training_batch_sizes=(1, 16))
    _, *tuned_cells = claim.cells(tiny(batch_sizes=(1, 16)), two)
    assert {cell.batch_size for cell in tuned_cells} == {1, 4, 16}


def test_the_noise_scale_is_measured_below_the_middle_batch_size_where_the_workload_trains_to_its_target():
    course, *_ = claim.cells(tiny(), SCOPE)
    assert (course.batch_size, course.repeats) == (4, 10)
    assert course_batch_size(find_workload("digits")) == 16
