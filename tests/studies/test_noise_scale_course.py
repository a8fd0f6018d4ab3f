"""The noise scale along a training: from made-up evaluations."""

import pytest

from suite.evidence import Problem
from suite.studies.noise_scale_course import analyse, study
from tests.claims.test_noise_scale import SCOPE, courses
from tests.conftest import tiny
from tests.evidence import evidence, without_rows


def test_it_reads_the_training_from_which_the_critical_batch_size_is_predicted():
    (cell,) = study.cells(tiny(), SCOPE)
    assert (cell.measurement.name, cell.batch_size, cell.repeats) == ("noise_scale", 4, 10)


def test_figure_and_text_name_batch_size_rate_target_and_updates():
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]])))
    course = findings.course
    assert (course.batch_size, course.learning_rate, course.updates_to_target) == (4, 0.2, 2)
    text = study.explain(findings)
    assert "With batch size 4 at its tuned rate 0.2 a training loss of 0.5 is reached after 2 updates" in text
    assert "4.00 examples at initialisation and 4.00 on average" in study.answer(findings)
    (axes,) = study.figure(findings).axes
    assert len(axes.lines) == 2 + 1 + 1


def test_a_rate_on_the_edge_of_its_grid_is_flagged():
    assert "edge of its grid" in study.explain(analyse(evidence(courses([[8, 8, 8]], on_edge=True))))
    assert "edge of its grid" not in study.explain(analyse(evidence(courses([[8, 8, 8]]))))


def test_seeds_that_missed_the_target_are_counted():
    missed = courses([[9, 9], [9, 9]], "target_not_reached").assign(seed=lambda rows: rows["seed"] + 2)
    findings = analyse(evidence(courses([[8, 8, 8], [2, 2, 2]]), missed))
    assert list(findings.course.seeds) == [0, 1]
    assert study.explain(findings).endswith("Seeds without a value are left out (2 of 4 seeds: target not reached).")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (courses([[8, 8], [8, 8]], status="target_not_reached"), "2 of 2 seeds: target not reached"),
        (courses([[8, 8]], status="diverged"), "1 of 1 seeds: diverged"),
        (without_rows("noise_scale", "cpu", "out_of_memory", "too much", (4,)), "too much"),
    ],
)
def test_without_a_value_nothing_is_drawn_and_the_answer_gives_the_reason(rows, reason):
    findings = analyse(evidence(rows))
    assert isinstance(findings.course, Problem)
    assert study.figure(findings) is None
    assert study.answer(findings) == f"The noise scale has no course to the target: {reason}."
    assert study.explain(findings) == ""
