"""The way to an advice, on a loss whose answer is known and on workloads that have none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from suite.advise import timing, training
from suite.advise.advisor import advise, anchor_size, second_size
from suite.advise.answer import lines, to_dict
from suite.advise.measured import Timing
from suite.advise.prediction import Curve
from suite.advise.timing import batch_sizes, time_updates
from suite.advise.training import Replicas
from suite.backends import CPU
from suite.workloads import Workload
from tests.advise.constant_noise import ConstantNoise, updates_to_target
from tests.advise.test_prediction import on_hyperbola
from tests.conftest import blobs, tiny


@pytest.mark.parametrize("noise_scale", [8, 64])
@pytest.mark.parametrize("b", [1e-6, 1e-4])
def test_the_recommended_batch_is_as_fast_as_the_best_of_the_closed_form(noise_scale, b):
    a = 1e-3
    trainer = ConstantNoise(noise_scale, a, b)
    found = advise(trainer, trainer.timings(), True, print)
    every = np.geomspace(1, 4096, 20_000)
    best = (updates_to_target(every, noise_scale) * (a + b * every)).min()
    size = found.recommendation.fastest
    assert updates_to_target(size, noise_scale) * (a + b * size) <= 1.05 * best
    assert found.curve.noise_scale.estimate == pytest.approx(noise_scale, rel=0.1)
    assert size in {one.trained.batch_size for one in found.checked}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "MIN_RUN_TIME_S", 0.002)


def advice(workload: Workload, backend=CPU, check=True, sizes=None, seeds=3):
    data = workload.load()
    timings = time_updates(workload, data, backend, 1, sizes or batch_sizes(len(data.train_inputs)))
    return advise(Replicas(workload, data, backend, seeds, 1), timings, check, lambda what: None)


def words(found, workload: Workload) -> list[str]:
    facts = to_dict(found, workload.name, "cpu", 1, workload.target_loss, 0.0)
    assert facts["in_words"] == lines(found, workload.target_loss)
    assert facts["status"] == found.status
    return facts["in_words"]


def test_fifty_examples_get_five_lines_and_nothing_recommended_that_was_not_trained():
    workload = tiny(load=lambda: blobs(50))
    found = advice(workload)
    assert [timing.batch_size for timing in found.timings] == [1, 2, 4, 8, 16, 32, 50]
    fastest, cheapest, *_, last = words(found, workload)
    assert fastest.startswith("Fastest: batch size ")
    assert cheapest.startswith("Cheapest: batch size ")
    assert last.startswith("Checked")
    trained = {one.trained.batch_size for one in found.checked} | {one.batch_size for one in found.curve.trained}
    chosen = found.recommendation
    assert {chosen.fastest, chosen.cheapest, chosen.low, chosen.high} <= trained


def test_without_a_check_the_rate_is_one_that_was_run():
    workload = tiny()
    found = advice(workload, check=False)
    facts = to_dict(found, "tiny", "cpu", 1, workload.target_loss, 0.0)
    run = {rate for trained in facts["trained"] for rate in trained["learning_rates"]}
    assert facts["recommended"]["fastest"]["learning_rate"] in run
    assert facts["verification"] == "none"
    assert "as predicted" in facts["in_words"][0]
    assert facts["in_words"][-1].startswith("Not checked")


def test_a_target_that_is_never_reached_is_said_so():
    workload = tiny(target_loss=1e-6, max_updates=30)
    found = advice(workload)
    assert found.status == "target_not_reached"
    assert "no learning rate" in words(found, workload)[0]
    assert "max_updates" in words(found, workload)[0]


def test_a_target_that_is_reached_before_any_update_is_said_so():
    workload = tiny(target_loss=50.0)
    found = advice(workload)
    assert found.status == "reached_at_start"
    assert "lower `target_loss`" in words(found, workload)[0]


def limited(most: int):
    """The backend `cpu` with memory for so many examples."""

    def gradient(model, loss, inputs, targets):
        if len(inputs) > most:
            raise MemoryError(f"no room for {len(inputs)} examples")
        CPU.gradient(model, loss, inputs, targets)

    return replace(CPU, gradient=gradient)


def test_beyond_the_limit_of_memory_nothing_is_recommended():
    workload = tiny()
    found = advice(workload, limited(8))
    assert [timing.status for timing in found.timings] == ["ok"] * 4 + ["out_of_memory"] * 3
    assert max(found.table.index) == 8
    assert found.recommendation.high <= 8
    assert "Batch sizes above 8 do not fit into memory (no room for 16 examples)." in words(found, workload)[2]
    facts = to_dict(found, "tiny", "cpu", 1, workload.target_loss, 0.0)
    assert [timing["status"] for timing in facts["timings"]][-1] == "out_of_memory"


def test_without_memory_for_one_example_there_is_no_advice():
    workload = tiny()
    found = advice(workload, limited(0))
    assert found.status == "out_of_memory"
    assert words(found, workload) == ["No batch size fits into memory, not even one example: no room for 1 examples."]


def test_a_noise_scale_that_reaches_below_zero_is_said_to_be_undetermined(monkeypatch):
    """Five of forty examples say too little of the gradient over all of them."""
    monkeypatch.setattr(training, "EXAMPLES", 5)
    workload = tiny(target_loss=0.3)
    found = advice(workload)
    assert not found.curve.determined
    assert "do not determine" in words(found, workload)[3]
    facts = to_dict(found, "tiny", "cpu", 1, workload.target_loss, 0.0)
    assert facts["noise_scale"]["status"] == "undetermined"


class Stuck(ConstantNoise):
    """After so many `calls` one replica never reaches the target with a batch size of `never`."""

    def __init__(self, never, calls: int = 0):
        super().__init__(64, 1e-3, 1e-6)
        self.never, self.calls = never, calls

    def _all(self, batch_size):
        found, self.calls = super()._all(batch_size), self.calls - 1
        stuck = batch_size in self.never and self.calls < 0
        return replace(found, updates=(*found.updates[1:], math.inf)) if stuck else found


def test_what_did_not_always_reach_the_target_is_told_and_not_recommended_unchecked():
    trainer = Stuck(never=[256])
    found = advise(trainer, trainer.timings(), False, print)
    assert [one.batch_size for one in found.failed] == [256]
    assert found.curve.others == ()
    assert found.table["time_s"].idxmin() == 256 != found.recommendation.fastest
    assert "(at batch size 256 some never reached the target)" in lines(found, 0.1)[3]
    facts = to_dict(found, "toy", "cpu", 1, 0.1, 0.0)
    assert [one["batch_size"] for one in facts["failed"]] == [256]


def test_where_no_check_reaches_the_target_there_is_no_advice():
    trainer = Stuck(never=range(5000), calls=1)
    found = advise(trainer, trainer.timings(), True, print)
    assert found.status == "target_not_reached"
    assert "some seeds never reached" in lines(found, 0.1)[0]


def test_what_is_trained_elsewhere_than_timed_is_chosen_as_if_all_updates_took_as_long():
    trainer = ConstantNoise(64, 0, 1e-3)
    here = advise(trainer, trainer.timings(), False, print).curve
    trainer.as_timed = False
    elsewhere = advise(trainer, trainer.timings(), False, print).curve
    assert here.anchor.batch_size == 1
    assert [one.batch_size for one in elsewhere.trained] == [16, 256]


def affine(sizes, update_s: float, example_s: float) -> list[Timing]:
    return [Timing(size, (update_s + example_s * size,)) for size in sizes]


def test_the_sizes_that_are_trained_lie_on_either_side_of_the_noise_scale():
    timings = affine(batch_sizes(1437), 1e-3, 0)
    assert anchor_size(76, timings) == 16
    assert anchor_size(0.5, timings) == 1
    assert anchor_size(1e6, timings) == 128
    assert anchor_size(-3, timings) == 8
    assert anchor_size(math.inf, timings) == 128
    assert second_size(Curve(on_hyperbola(16, 100, 34)), timings) == 128
    assert second_size(Curve(on_hyperbola(16, 100, 1)), timings) == 64
    assert second_size(Curve(on_hyperbola(2, 100, 34)), affine([1, 2, 3], 1e-3, 0)) == 3


def test_where_examples_take_long_those_sizes_are_smaller():
    timings = affine(batch_sizes(2000), 2.6e-3, 0.2e-3)
    assert anchor_size(1e6, timings) == 8
    curve = Curve(on_hyperbola(8, 1000, 100))
    times = {one.batch_size: one.update_s * curve.hyperbola(one.batch_size) for one in timings}
    chosen = second_size(curve, timings)
    assert times[chosen] <= 2 * times[8] < times[2 * chosen]
    assert second_size(curve, affine(batch_sizes(2000), 0, 1)) == 64
    assert second_size(curve, affine(batch_sizes(2000), 0, 1)[:5]) == 16
    assert second_size(Curve(on_hyperbola(8, 1000, 15)), affine(batch_sizes(2000), 0, 1)) == 32
