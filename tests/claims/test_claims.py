from dataclasses import replace

import pytest

from suite.claims import all_claims, find
from suite.errors import UserError
from suite.experiments.cell import NO_BATCH_SIZE, Cell, Scope
from suite.studies import studies_of
from tests.conftest import tiny

SCOPE = Scope(
    (1, 4, 16),
    (1, 4, 16),
    training_batch_sizes=(1, 4, 16),
    seeds=3,
    processes=9,
    backends=("sequential", "cpu"),
    training_backend="cpu",
)


def cells(claim: str, scope: Scope = SCOPE) -> list[Cell]:
    return find(claim).cells(tiny(), scope)


def test_the_rows_stand_in_the_order_of_the_lecture():
    assert [(claim.title, claim.small, claim.large) for claim in all_claims()] == [
        ("Speed for one update (no parallel)", "Faster", "Slower"),
        ("Speed for one update (with parallel)", "Same", "Same (not too large)"),
        ("Time for one epoch", "Slower", "Faster"),
        ("Gradient", "Noisy", "Stable"),
        ("Optimization", "Better", "Worse"),
        ("Generalization", "Better", "Worse"),
        ("Flat and sharp minima", "Flat", "Sharp"),
        ("Movement", "The gradient", "All gradients"),
        ("Plateaus (toy)", "Stops (here: leaves later)", "Rolls on"),
        ("Local minima (toy)", "Stops", "Rolls over the bump"),
        ("Momentum saves updates", "More updates", "Fewer updates"),
        ("The noise scale predicts the critical batch size", "Critical batch size", "The same"),
    ]


def test_every_rule_for_a_verdict_is_one_sentence_that_says_when_it_holds():
    for claim in all_claims():
        assert claim.rule.startswith(("Holds when ", "Checked when "))
        assert claim.rule.endswith(".")
        assert ". " not in claim.rule.replace("1.5 ", "")


def test_a_claim_is_found_by_its_name_and_an_unknown_one_says_what_there_is():
    assert find("gradient").title == "Gradient"
    with pytest.raises(
        UserError,
        match=r"^no claim 'nope': choose from update_sequential, .*, momentum_speed_up, noise_scale$",
    ):
        find("nope")


def test_every_batch_size_is_trained_at_the_workloads_rate_and_the_two_of_the_table_at_every_rate():
    trained = {(cell.protocol.learning_rate, cell.batch_size) for cell in cells("optimization")}
    assert trained == {(0.1, 1), (0.1, 4), (0.1, 16), (0.03, 1), (0.03, 16)}


def test_a_claim_lists_its_trainings_alone_and_its_studies_the_others():
    factorial = replace(SCOPE, factorial=True)
    assert cells("optimization", factorial) == cells("optimization")
    assert cells("generalization", factorial) == cells("generalization")
    assert [study.name for study in studies_of("optimization")] == [
        "stuck_or_slow",
        "optimization_factorial",
        "rate_map",
        "decay_or_grow",
        "sampling",
    ]
    assert studies_of("generalization")[0].name == "generalization_factorial"


def test_a_claim_and_a_study_never_train_the_same_thing_twice():
    """The trainings for equal epochs whose scores are shown under generalization are those of optimization."""
    (scores,) = [study for study in studies_of("generalization") if study.name == "scores_by_batch_size"]
    shared = set(scores.cells(tiny(), SCOPE)) & set(cells("optimization"))
    assert {cell.batch_size for cell in shared} == {1, 4, 16}
    assert len(set(scores.cells(tiny(), SCOPE)) & set(cells("generalization"))) == 2


def test_the_yardstick_of_parallel_is_timed_even_where_it_was_not_asked_for():
    only_cpu = Scope((1, 16), (1, 16), (1, 16), 3, 9, backends=("cpu",), training_backend="cpu")
    timed = {(cell.backend, cell.input_pipeline, cell.batch_size) for cell in cells("update_parallel", only_cpu)}
    assert timed == {
        (*fed, size)
        for fed in [("cpu", "resident"), ("cpu", "dataloader"), ("sequential", "resident")]
        for size in (1, 16)
    }
    assert cells("update_sequential", only_cpu) == []


def test_updates_are_timed_once_for_all_the_speed_claims():
    update_cells = {cell for cell in cells("epoch_time") if cell.measurement.name == "update_time"}
    assert update_cells == set(cells("update_parallel"))
    assert set(cells("update_sequential")) < update_cells


def test_an_epoch_is_timed_in_six_processes_on_each_backend():
    epochs = [cell for cell in cells("epoch_time") if cell.measurement.name == "epoch_time"]
    assert {cell.repeats for cell in epochs} == {6}
    assert {(cell.backend, cell.input_pipeline) for cell in epochs} == {
        ("sequential", "resident"),
        ("cpu", "resident"),
        ("cpu", "dataloader"),
    }


def test_the_noise_of_every_batch_size_is_measured_after_training_with_the_middle_one():
    workload = tiny(batch_sizes=(1, 2, 4, 8, 16))
    measured = find("gradient").cells(workload, SCOPE)
    noise = [cell for cell in measured if cell.measurement.name in ("gradient_variance", "gradient_noise")]
    assert [cell.batch_size for cell in noise] == [NO_BATCH_SIZE, 1, 4, 16]
    assert {cell.protocol.budget.batch_size for cell in noise} == {4}
