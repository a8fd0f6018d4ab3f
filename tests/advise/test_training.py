"""The trainings for a recommendation."""

import math
from dataclasses import replace

import pytest
import torch

from suite.advise.measurements import TrainingRun
from suite.advise.training import FIRST_EVALUATION, MAX_HALVINGS, Replicas
from suite.backends import BACKENDS, CPU
from suite.training.engine import Engine
from tests.conftest import blobs, tiny


def replicas(backend=CPU, min_replicas_per_call=8, **changes) -> Replicas:
    workload = tiny(**changes)
    return Replicas(workload, workload.load(), backend, 3, 1, min_replicas_per_call=min_replicas_per_call)


def test_the_first_evaluation_waits_for_a_share_of_the_expected_updates():
    budget = replicas(max_updates=10_000)._budget(400)
    checks = list(budget.checks(examples=40, batch_size=4))
    assert checks[0] == 0
    assert checks[1] >= FIRST_EVALUATION * 400 > 1
    assert list(replicas(max_updates=10_000)._budget(math.inf).checks(40, 4))[1] == 1


def test_a_rate_at_which_some_replicas_are_stuck_is_halved_and_every_rate_is_recorded():
    trials = TrainingRun(4, 0.8, (50.0, 60.0), learning_rates=(0.4, 0.8))
    rates = []

    def train(rate, budget):
        rates.append(rate)
        return replace(trials, learning_rate=rate, updates=(50.0, math.inf))

    run = replicas()._train_or_halve(trials, train)
    assert rates == pytest.approx([0.8 / 2**power for power in range(MAX_HALVINGS + 1)])
    assert run.learning_rate == pytest.approx(0.2)
    assert run.learning_rates == pytest.approx((0.2, 0.4, 0.8))


def test_without_memory_for_an_ensemble_the_replicas_are_trained_one_after_another(monkeypatch):
    sizes, train = [], Engine.train

    def limited(engine, *arguments):
        sizes.append(engine.replicas_per_call)
        if engine.replicas_per_call > 2:
            raise MemoryError("no room for so many replicas")
        return train(engine, *arguments)

    monkeypatch.setattr(Engine, "train", limited)
    trainer, plain = replicas(min_replicas_per_call=3), replicas(min_replicas_per_call=3)
    plain.as_ensemble = False
    assert trainer.tuned_run(4, 0.1, 50.0) == plain.tuned_run(4, 0.1, 50.0)
    assert sizes[0] > 2
    assert max(sizes[1:]) == 1


def test_without_memory_for_one_replica_the_error_is_raised(monkeypatch):
    calls = []

    def failed(engine, *arguments):
        calls.append(engine)
        raise MemoryError("no room")

    trainer = replicas()
    trainer.as_ensemble = False
    monkeypatch.setattr(Engine, "train", failed)
    with pytest.raises(MemoryError):
        trainer.tuned_run(4, 0.1, 50.0)
    assert len(calls) == 1


def hinge(outputs, targets):
    return torch.relu(1 - outputs.gather(1, targets[:, None]).squeeze(1))


def test_without_a_gradient_the_noise_scale_is_infinite():
    trainer, data = replicas(loss=hinge), blobs()
    model = trainer.workload.initial_model(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        list(model.parameters())[-1][0] = 5.0
    data.train_targets[:] = 0
    assert trainer._noise_scale(model, data, 0) == math.inf


@pytest.mark.parametrize(("name", "trains_as_timed"), [("cpu", True), ("sequential", False)])
def test_replicas_train_on_whole_batches_even_where_updates_are_timed_one_example_at_a_time(name, trains_as_timed):
    assert replicas(BACKENDS[name]).trains_as_timed == trains_as_timed


def test_a_training_counts_as_one_update_at_least():
    at_start = TrainingRun(4, 0.1, (0.0, 0.4, math.e))
    assert at_start.log_updates == pytest.approx([0, 0, 1])
    assert at_start.reached_at_start


def test_the_base_seed_determines_the_trainings():
    first, again, different = (replicas(base_seed=base_seed) for base_seed in (1, 1, 2))
    assert first.initial_noise_scale() == again.initial_noise_scale() != different.initial_noise_scale()
    assert first.tuned_run(4, 0.1, 50.0) == again.tuned_run(4, 0.1, 50.0) != different.tuned_run(4, 0.1, 50.0)
