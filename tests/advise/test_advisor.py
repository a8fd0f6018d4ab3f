"""Recommendations on a loss whose answer is known, and on workloads without one."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise.advisor import Recommendation, advise, pilot_batch_size, second_batch_size
from suite.advise.answer import lines
from suite.advise.measurements import Timing
from suite.advise.prediction import Prediction
from suite.advise.stored_answer import to_dict
from suite.advise.timing import batch_sizes, time_updates
from suite.advise.training import NOISE_EXAMPLES, Replicas
from suite.backends import CPU
from suite.workloads import Workload
from tests.advise.constant_noise import ConstantNoise, updates_to_target
from tests.advise.test_prediction import on_hyperbola
from tests.conftest import blobs, tiny


@pytest.mark.parametrize("noise_scale", [8, 64])
@pytest.mark.parametrize("b", [1e-6, 1e-4])
def test_the_recommended_batch_size_is_as_fast_as_the_best_of_the_closed_form(noise_scale, b):
    a = 1e-3
    trainer = ConstantNoise(noise_scale, a, b)
    recommendation = advise(trainer, trainer.timings(), True, print)
    sizes = np.geomspace(1, 4096, 20_000)
    best = (updates_to_target(sizes, noise_scale) * (a + b * sizes)).min()
    size = recommendation.choice.fastest
    assert updates_to_target(size, noise_scale) * (a + b * size) <= 1.05 * best
    assert recommendation.prediction.noise_scale.estimate == pytest.approx(noise_scale, rel=0.1)
    assert size in {check.run.batch_size for check in recommendation.checks}


def recommend(workload: Workload, backend=CPU, with_checks=True, noise_examples=NOISE_EXAMPLES) -> Recommendation:
    """With three seeds and short timings."""
    data = workload.load()
    sizes = batch_sizes(len(data.train_inputs))
    timings = time_updates(workload, data, backend, 1, sizes, rounds=2, min_run_time_s=0.002)
    trainer = Replicas(workload, data, backend, 3, 1, noise_examples)
    return advise(trainer, timings, with_checks, lambda step: None)


def words(recommendation: Recommendation, workload: Workload) -> list[str]:
    answer = to_dict(recommendation, workload.name, "cpu", 1, workload.target_loss, 0.0)
    assert answer["in_words"] == lines(recommendation, workload.target_loss)
    assert answer["status"] == recommendation.status
    return answer["in_words"]


def test_the_answer_has_five_lines_and_every_chosen_batch_size_was_trained():
    workload = tiny(load=lambda: blobs(50))
    recommendation = recommend(workload)
    assert [timing.batch_size for timing in recommendation.timings] == [1, 2, 4, 8, 16, 32, 50]
    fastest, cheapest, *_, last = words(recommendation, workload)
    assert fastest.startswith("Fastest: batch size ")
    assert cheapest.startswith("Cheapest: batch size ")
    assert last.startswith("Checked")
    trained = {run.batch_size for run in recommendation.prediction.runs}
    trained |= {check.run.batch_size for check in recommendation.checks}
    choice = recommendation.choice
    assert {choice.fastest, choice.cheapest, choice.low, choice.high} <= trained


def test_the_recommended_rate_was_tried_even_without_checks():
    workload = tiny()
    recommendation = recommend(workload, with_checks=False)
    answer = to_dict(recommendation, "tiny", "cpu", 1, workload.target_loss, 0.0)
    tried = {rate for run in answer["trained"] for rate in run["learning_rates"]}
    assert answer["recommended"]["fastest"]["learning_rate"] in tried
    assert answer["verification"] == "none"
    assert "as predicted" in answer["in_words"][0]
    assert answer["in_words"][-1].startswith("Not checked")


def test_a_target_that_no_training_reaches_is_reported():
    workload = tiny(target_loss=1e-6, max_updates=30)
    recommendation = recommend(workload)
    assert recommendation.status == "target_not_reached"
    assert "no learning rate" in words(recommendation, workload)[0]
    assert "max_updates" in words(recommendation, workload)[0]


def test_a_target_that_is_reached_before_the_first_update_is_reported():
    workload = tiny(target_loss=50.0)
    recommendation = recommend(workload)
    assert recommendation.status == "reached_at_start"
    assert "Lower `target_loss`" in words(recommendation, workload)[0]


def limited(max_examples: int):
    """The backend `cpu` with memory for batches of at most `max_examples`."""

    def gradient(model, loss, inputs, targets):
        if len(inputs) > max_examples:
            raise MemoryError(f"no room for {len(inputs)} examples")
        CPU.gradient(model, loss, inputs, targets)

    return replace(CPU, gradient=gradient)


def test_a_batch_size_that_does_not_fit_into_memory_is_not_recommended():
    workload = tiny()
    recommendation = recommend(workload, limited(8))
    assert [timing.status for timing in recommendation.timings] == ["ok"] * 4 + ["out_of_memory"] * 3
    assert max(recommendation.checked_table.index) == 8
    assert recommendation.choice.high <= 8
    limit = "Batch sizes above 8 do not fit into memory (no room for 16 examples)."
    assert limit in words(recommendation, workload)[2]
    answer = to_dict(recommendation, "tiny", "cpu", 1, workload.target_loss, 0.0)
    assert [timing["status"] for timing in answer["timings"]][-1] == "out_of_memory"


def test_without_memory_for_one_example_there_is_no_recommendation():
    workload = tiny()
    recommendation = recommend(workload, limited(0))
    assert recommendation.status == "out_of_memory"
    assert words(recommendation, workload) == [
        "No batch size fits into memory, not even one example: no room for 1 examples."
    ]


def test_a_noise_scale_whose_interval_reaches_below_zero_is_reported_as_undetermined():
    """Five of forty examples do not determine the gradient over all forty."""
    workload = tiny(target_loss=0.3)
    recommendation = recommend(workload, noise_examples=5)
    assert not recommendation.prediction.is_determined
    assert "do not determine" in words(recommendation, workload)[3]
    answer = to_dict(recommendation, "tiny", "cpu", 1, workload.target_loss, 0.0)
    assert answer["noise_scale"]["status"] == "undetermined"


class Stuck(ConstantNoise):
    """One replica of the `batch_sizes` never reaches the target, after the first `successes` runs of any size."""

    def __init__(self, batch_sizes, successes: int = 0):
        super().__init__(64, 1e-3, 1e-6)
        self.batch_sizes, self.successes = batch_sizes, successes

    def _run(self, batch_size):
        run, self.successes = super()._run(batch_size), self.successes - 1
        stuck = batch_size in self.batch_sizes and self.successes < 0
        return replace(run, updates=(*run.updates[1:], math.inf)) if stuck else run


def test_a_batch_size_with_a_failed_run_is_reported_and_not_recommended_without_a_check():
    trainer = Stuck([256])
    recommendation = advise(trainer, trainer.timings(), False, print)
    assert [run.batch_size for run in recommendation.failed_runs] == [256]
    assert recommendation.prediction.further_runs == ()
    assert recommendation.checked_table["time_s"].idxmin() == 256 != recommendation.choice.fastest
    assert "(some trainings at batch size 256 never reached the target)" in lines(recommendation, 0.1)[3]
    answer = to_dict(recommendation, "toy", "cpu", 1, 0.1, 0.0)
    assert [run["batch_size"] for run in answer["failed"]] == [256]


def test_there_is_no_recommendation_where_no_check_reaches_the_target():
    trainer = Stuck(range(5000), successes=1)
    recommendation = advise(trainer, trainer.timings(), True, print)
    assert recommendation.status == "target_not_reached"
    assert "some seeds never reached" in lines(recommendation, 0.1)[0]


def test_batch_sizes_to_train_ignore_update_times_that_are_of_another_backend():
    trainer = ConstantNoise(64, 0, 1e-3)
    same_backend = advise(trainer, trainer.timings(), False, print).prediction
    trainer.trains_as_timed = False
    different_backend = advise(trainer, trainer.timings(), False, print).prediction
    assert same_backend.pilot.batch_size == 1
    assert [run.batch_size for run in different_backend.runs] == [16, 256]


def affine(sizes, update_s: float, example_s: float) -> list[Timing]:
    return [Timing(size, (update_s + example_s * size,)) for size in sizes]


def test_the_pilot_and_second_batch_sizes_lie_to_either_side_of_the_noise_scale():
    timings = affine(batch_sizes(1437), 1e-3, 0)
    assert pilot_batch_size(76, timings) == 16
    assert pilot_batch_size(0.5, timings) == 1
    assert pilot_batch_size(1e6, timings) == 128
    assert pilot_batch_size(-3, timings) == 8
    assert pilot_batch_size(math.inf, timings) == 128
    assert second_batch_size(Prediction(on_hyperbola(16, 100, 34)), timings) == 128
    assert second_batch_size(Prediction(on_hyperbola(16, 100, 1)), timings) == 64
    assert second_batch_size(Prediction(on_hyperbola(2, 100, 34)), affine([1, 2, 3], 1e-3, 0)) == 3


def test_expensive_examples_make_the_pilot_and_second_batch_sizes_smaller():
    timings = affine(batch_sizes(2000), 2.6e-3, 0.2e-3)
    assert pilot_batch_size(1e6, timings) == 8
    prediction = Prediction(on_hyperbola(8, 1000, 100))
    times = {timing.batch_size: timing.update_s * prediction.hyperbola(timing.batch_size) for timing in timings}
    size = second_batch_size(prediction, timings)
    assert times[size] <= 2 * times[8] < times[2 * size]
    assert second_batch_size(prediction, affine(batch_sizes(2000), 0, 1)) == 64
    assert second_batch_size(prediction, affine(batch_sizes(2000), 0, 1)[:5]) == 16
    assert second_batch_size(Prediction(on_hyperbola(8, 1000, 15)), affine(batch_sizes(2000), 0, 1)) == 32
