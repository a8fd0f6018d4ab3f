import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from suite.cells import Scope
from suite.claims import Evidence, Facts, find, noise_course
from suite.claims.momentum_speed_up import PLAIN, protocols
from suite.claims.noise_course import CRITICAL, EFFECTIVE, MEAN, START
from suite.optimizers import adamw, sgd
from suite.workloads import find as find_workload
from suite.workloads.workload import PublishedNoise
from tests.claims.evidence import FACTS, evidence
from tests.conftest import blobs, tiny

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), seeds=12, processes=9, backends=("cpu",), training_backend="cpu")
PUBLISHED = PublishedNoise("Somebody 2018", noise_scale=(50, 900), critical_batch=(20, 200))


def looks(of_seeds: list[list[float]], status: str = "ok") -> pd.DataFrame:
    """Noise scales of each seed after 0, 1, 2, ... updates with batch size 4; the loss falls by half each time and
    crosses the target of 0.5 at the last."""
    frames = []
    for seed, scales in enumerate(of_seeds):
        updates = np.arange(len(scales))
        loss = 0.5 * 2.0 ** (updates[-1] - updates)
        frames.append(pd.DataFrame({"updates": updates, "train_loss": loss, "noise_scale": scales}).assign(seed=seed))
    rows = pd.concat(frames).assign(measurement="noise_scale", batch_size=4, status=status, learning_rate=0.2)
    (along,) = [cell for cell in noise_course.cells(tiny(), SCOPE, 2) if cell.measurement.name == "noise_scale"]
    return rows.assign(protocol=along.protocol.key, on_edge=False)


def tuned(critical: list[float], least: float = 10) -> pd.DataFrame:
    """Of each seed, tuned trainings that cross the target after S (1 + b / B) updates, b being `critical`."""
    lines = [
        {"batch_size": size, "seed": seed, "updates": updates, "train_loss": loss, "stage": "final"}
        for size in (1, 4, 16)
        for seed, scale in enumerate(critical)
        for updates, loss in ((0, 1.0), (least * (1 + scale / size), 0.5))
    ]
    protocol = protocols(FACTS)[PLAIN].key
    return pd.DataFrame(lines).assign(measurement="tuned_training", status="ok", protocol=protocol, learning_rate=0.1)


def test_what_it_comes_to_is_a_geometric_mean_over_seeds():
    found = noise_course.found(evidence(looks([[8, 8, 8, 8], [2, 2, 2, 2]])))
    assert all(math.isclose(found[what].estimate, 4) for what in (START, MEAN, EFFECTIVE))
    assert found[START].n == 2
    assert CRITICAL not in found


def test_each_seed_is_weighed_along_its_own_training():
    """Shares of 1/2, 1/3 and 1/5 of an update at batch size 4: 31/30 updates, and 4 (3 - 31/30) examples."""
    each = noise_course.of_each_seed(evidence(looks([[4, 8, 16, 99], [4, 4, 4, 4]])))
    assert each.loc[0, "updates"] == 3
    assert math.isclose(each.loc[0, EFFECTIVE], 4 * (3 / (31 / 30) - 1))
    assert math.isclose(each.loc[0, MEAN], 28 / 3)
    assert math.isclose(each.loc[1, EFFECTIVE], 4)


def test_the_critical_batch_is_that_of_the_tuned_trainings_alone():
    """The training along which the noise scale is measured has another protocol."""
    found = noise_course.found(evidence(looks([[8, 8, 8], [8, 8, 8]]), tuned([6, 6, 6])))
    assert math.isclose(found[CRITICAL].estimate, 6, rel_tol=1e-4)
    assert found[CRITICAL].n == 3


def test_figure_and_words_name_batch_size_rate_target_and_weights():
    told = evidence(looks([[8, 8, 8], [2, 2, 2]]), tuned([6, 6, 6]))
    said = noise_course.sentence(told)
    assert "with batch size 4 at its tuned rate 0.2 to a training loss of 0.5, 2 updates" in said
    assert "critical batch" in said
    assert "Somebody" not in said
    left, right = noise_course.draw(told).axes
    assert len(left.lines) == 2 + 1 + 1
    assert [label.get_text() for label in right.get_yticklabels()] == [START, MEAN, EFFECTIVE, CRITICAL]


def test_published_values_stand_beside_what_they_are_of():
    facts = Facts.of(tiny(published_noise=PUBLISHED), blobs())
    told = Evidence(facts, evidence(looks([[9, 9, 9], [9, 9, 9]]), tuned([6, 6, 6])).rows)
    right = noise_course.draw(told).axes[1]
    diamonds = next(line for line in right.lines if line.get_label() == "Somebody 2018")
    assert list(zip(*diamonds.get_data(), strict=True)) == [(50, 0), (900, 1), (200, 3)]
    assert "here it is 0.180 and 0.0100 times theirs" in noise_course.sentence(told)


def test_published_values_are_told_where_nothing_has_a_value():
    told = Evidence(Facts.of(tiny(published_noise=PUBLISHED), blobs()), evidence(looks([[9, 9]], "diverged")).rows)
    assert noise_course.draw(told) is None
    said = noise_course.sentence(told)
    assert said.startswith(
        "The noise scale along a training has no value (1 of 1 seeds: diverged). Somebody 2018 has"
    )
    assert "has a noise scale of 50 at the start and 900 on average" in said
    assert said.endswith("to another loss.")


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
    ("rows", "why"),
    [
        (looks([[8, 8], [8, 8]], status="target_not_reached"), "2 of 2 seeds: target not reached"),
        (looks([[8, 8]], status="diverged"), "1 of 1 seeds: diverged"),
        (FAILED, "out of memory, too much"),
    ],
)
def test_without_a_value_nothing_is_drawn_and_one_sentence_says_why(rows, why):
    told = evidence(rows)
    assert noise_course.draw(told) is None
    assert noise_course.sentence(told) == f"The noise scale along a training has no value ({why})."


def test_where_it_was_not_planned_nothing_is_said():
    told = evidence(tuned([6, 6]).assign(noise_scale=8.0))
    assert noise_course.draw(told) is None
    assert noise_course.sentence(told) == ""


def test_seeds_that_missed_the_target_are_counted():
    missed = looks([[9, 9], [9, 9]], "target_not_reached").assign(seed=lambda rows: rows["seed"] + 2)
    said = noise_course.sentence(evidence(looks([[8, 8, 8], [2, 2, 2]]), missed))
    assert said.endswith("Seeds without a value are left out (2 of 4 seeds: target not reached).")
    assert "is 4.00 (" in said


@pytest.mark.parametrize("optimizer", [sgd(momentum=0.9), adamw()], ids=str)
def test_it_names_sgd_where_the_workload_is_trained_otherwise(optimizer):
    rows = evidence(looks([[8, 8, 8], [2, 2, 2]])).rows
    assert "SGD" not in noise_course.sentence(Evidence(FACTS, rows))
    said = noise_course.sentence(Evidence(replace(FACTS, optimizer=optimizer), rows))
    assert f"That weighing is the theory of SGD without momentum; tiny is trained with {optimizer.label}." in said
    cells = noise_course.cells(tiny(optimizer=optimizer), SCOPE, 2)
    assert {cell.protocol.optimizer for cell in cells} == {optimizer}


def test_the_tuned_trainings_are_those_that_momentum_saves_updates_of():
    _, *tuned_cells = noise_course.cells(tiny(), SCOPE, seeds=10)
    assert set(tuned_cells) < set(find("momentum_speed_up").cells(tiny(), SCOPE))
    assert {cell.batch_size for cell in tuned_cells} == {1, 16}


def test_it_is_measured_below_the_middle_batch_size_where_the_workload_trains_to_its_target():
    along, *_ = noise_course.cells(tiny(), SCOPE, seeds=10)
    assert (along.batch_size, along.repeats) == (4, 10)
    assert noise_course.batch_size(find_workload("digits")) == 16
    assert noise_course.cells(tiny(claims=("gradient",)), SCOPE, seeds=10) == []
