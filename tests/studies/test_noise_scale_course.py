import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from suite.claims.momentum_speed_up import claim as momentum_speed_up
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Scope
from suite.optimizers import adamw, sgd
from suite.studies.noise_scale_course import (
    CRITICAL,
    EFFECTIVE,
    INITIAL,
    LABELS,
    MEAN,
    analyse,
    course_batch_size,
    study,
    tuned_protocol,
)
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
    (course,) = [cell for cell in study.cells(tiny(), SCOPE) if cell.measurement.name == "noise_scale"]
    return rows.assign(protocol=course.protocol.key, on_edge=on_edge)


def tuned(critical: list[float], min_updates: float = 10) -> pd.DataFrame:
    """Of each seed, tuned trainings that cross the target after S (1 + b / B) updates, b being `critical`."""
    lines = [
        {"batch_size": size, "seed": seed, "updates": updates, "train_loss": loss, "stage": "final"}
        for size in (1, 4, 16)
        for seed, scale in enumerate(critical)
        for updates, loss in ((0, 1.0), (min_updates * (1 + scale / size), 0.5))
    ]
    rows = pd.DataFrame(lines).assign(measurement="tuned_training", status="ok", learning_rate=0.1)
    return rows.assign(protocol=tuned_protocol(FACTS).key)


def test_noise_scales_are_geometric_means_over_seeds():
    course = analyse(evidence(courses([[8, 8, 8, 8], [2, 2, 2, 2]]))).course
    assert all(math.isclose(course.examples[name].estimate, 4) for name in (INITIAL, MEAN, EFFECTIVE))
    assert course.examples[INITIAL].n == 2
    assert CRITICAL not in course.examples
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
    course = analyse(evidence(courses([[8, 8, 8], [8, 8, 8]]), tuned([6, 6, 6]))).course
    assert math.isclose(course.examples[CRITICAL].estimate, 6, rel_tol=1e-4)
    assert course.examples[CRITICAL].n == 3


def test_the_critical_batch_size_is_a_geometric_mean_over_seeds_that_reached_the_target_with_every_batch_size():
    rows = tuned([3, 12, 50])
    rows = rows[(rows["seed"] != 2) | (rows["batch_size"] != 16)]
    critical = analyse(evidence(courses([[8, 8, 8]]), rows)).course.examples[CRITICAL]
    assert math.isclose(critical.estimate, 6, rel_tol=1e-4)
    assert critical.n == 2


def test_trials_and_two_batch_sizes_give_no_critical_batch_size():
    for rows in (tuned([6, 6]).assign(stage="trial"), tuned([6, 6]).query("batch_size > 1")):
        findings = analyse(evidence(courses([[8, 8, 8]]), rows))
        assert CRITICAL not in findings.course.examples
        assert "trainings at several batch sizes" not in study.answer(findings)


def test_figure_and_text_name_batch_size_rate_target_and_updates():
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]]), tuned([6, 6, 6])))
    course = findings.course
    assert (course.batch_size, course.learning_rate, course.updates_to_target) == (4, 0.2, 2)
    text = study.explain(findings)
    assert "With batch size 4 at its tuned rate 0.2 a training loss of 0.5 is reached after 2 updates" in text
    assert "predicts B_crit" in text
    assert "Somebody" not in text
    assert "4.00" in study.answer(findings)
    assert "6.00" in study.answer(findings)
    left, right = study.figure(findings).axes
    assert len(left.lines) == 2 + 1 + 1
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels == [LABELS[name] for name in (INITIAL, MEAN, EFFECTIVE, CRITICAL)]


def test_a_rate_on_the_edge_of_its_grid_is_flagged():
    assert "edge of its grid" in study.explain(analyse(evidence(courses([[8, 8, 8]], on_edge=True))))
    assert "edge of its grid" not in study.explain(analyse(evidence(courses([[8, 8, 8]]))))


def test_published_values_stand_beside_the_quantities_that_they_are_of():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    findings = analyse(Evidence(facts, evidence(courses([[9, 9, 9], [9, 9, 9]]), tuned([6, 6, 6])).rows))
    right = study.figure(findings).axes[1]
    diamonds = next(line for line in right.lines if line.get_label() == "Somebody 2018")
    assert list(zip(*diamonds.get_data(), strict=True)) == [(50, 0), (900, 1), (200, 3)]
    assert findings.course.over_published == {INITIAL: pytest.approx(0.18), MEAN: pytest.approx(0.01)}
    assert "0.180 and 0.0100 times theirs" in study.explain(findings)


def test_published_values_are_named_where_nothing_has_a_value():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    findings = analyse(Evidence(facts, evidence(courses([[9, 9]], "diverged")).rows))
    assert findings.course is None
    assert study.figure(findings) is None
    assert "has no value: 1 of 1 seeds: diverged" in study.answer(findings)
    text = study.explain(findings)
    assert text.startswith("Somebody 2018 has a noise scale of 50 at initialisation and 900 on average")
    assert text.endswith("to another loss.")


def test_facts_survive_being_stored():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    assert Facts.from_dict(facts.to_dict()) == facts
    without = facts.to_dict()
    del without["published_noise"], without["published_noise_by"]
    assert Facts.from_dict(without) == replace(facts, published_noise={}, published_noise_by="")


FAILED = pd.DataFrame(
    [{"measurement": "noise_scale", "batch_size": 4, "status": "out_of_memory", "reason": "too much"}]
)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (courses([[8, 8], [8, 8]], status="target_not_reached"), "2 of 2 seeds: target not reached"),
        (courses([[8, 8]], status="diverged"), "1 of 1 seeds: diverged"),
        (FAILED, "out of memory, too much"),
    ],
)
def test_without_a_value_nothing_is_drawn_and_one_sentence_gives_the_reason(rows, reason):
    findings = analyse(evidence(rows))
    assert study.figure(findings) is None
    assert study.answer(findings) == f"The gradient noise scale along a training has no value: {reason}."
    assert study.explain(findings) == ""


def test_without_a_planned_training_nothing_is_drawn():
    findings = analyse(evidence(tuned([6, 6]).assign(noise_scale=8.0)))
    assert findings.course is None
    assert study.figure(findings) is None
    assert "not measured" in study.answer(findings)
    assert study.explain(findings) == ""


def test_seeds_that_missed_the_target_are_counted():
    missed = courses([[9, 9], [9, 9]], "target_not_reached").assign(seed=lambda rows: rows["seed"] + 2)
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]]), missed))
    assert list(findings.course.seeds) == [0, 1]
    assert math.isclose(findings.course.examples[INITIAL].estimate, 4)
    text = study.explain(findings)
    assert text.endswith("Seeds without a value are left out (2 of 4 seeds: target not reached).")


@pytest.mark.parametrize("optimizer", [sgd(momentum=0.9), adamw()], ids=str)
def test_the_text_names_sgd_where_the_workload_is_trained_otherwise(optimizer):
    rows = evidence(courses([[8, 8, 8], [2, 2, 2]])).rows
    assert "SGD" not in study.explain(analyse(Evidence(FACTS, rows)))
    text = study.explain(analyse(Evidence(replace(FACTS, optimizer=optimizer), rows)))
    assert f"theory of SGD without momentum; tiny is trained with {optimizer.label}." in text
    assert {cell.protocol.optimizer for cell in study.cells(tiny(optimizer=optimizer), SCOPE)} == {optimizer}


def test_the_tuned_trainings_are_those_of_momentum_speed_up():
    _, *tuned_cells = study.cells(tiny(), SCOPE)
    assert set(tuned_cells) < set(momentum_speed_up.cells(tiny(), SCOPE))
    assert {cell.batch_size for cell in tuned_cells} == {1, 16}


def test_the_noise_scale_is_measured_below_the_middle_batch_size_where_the_workload_trains_to_its_target():
    course, *_ = study.cells(tiny(), SCOPE)
    assert (course.batch_size, course.repeats) == (4, 10)
    assert course_batch_size(find_workload("digits")) == 16
    assert study.cells(tiny(claims=("gradient",)), SCOPE) == []
