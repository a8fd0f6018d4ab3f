"""The trainings for a recommendation."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from suite.advise.measurements import TrainingRun
from suite.advise.training import EVALUATION_GROWTH, FIRST_EVALUATION, MAX_HALVINGS, Replicas
from suite.backends import BACKENDS, CPU
from suite.statistics import value_at_crossing
from suite.training.budgets import TargetLoss
from suite.training.engine import Engine
from suite.training.plain import train_and_evaluate, trained
from suite.training.protocol import Protocol
from tests.conftest import blobs, tiny
from tests.training.constructed import noisy_quadratic
from tests.training.test_average import least_loss


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


def test_updates_to_the_target_are_those_of_averaged_parameters():
    trainer = replicas(target_loss=0.5, max_updates=2000)
    run = trainer.run_at_rate(8, 0.3, 100.0)
    workload = trainer.workload
    for replica, updates in zip(range(3, 6), run.updates, strict=True):
        protocol = replace(Protocol.to_target(workload), learning_rate=0.3)
        _, evaluations = trained(workload, workload.replica_data(trainer.data, replica), protocol, 8, replica)
        crossing = value_at_crossing(evaluations["train_loss"], evaluations["updates"], workload.target_loss)
        assert updates == pytest.approx(crossing, rel=0.02)


def test_the_noise_along_the_pilot_run_is_that_of_the_last_iterate(monkeypatch):
    models = []
    trainer = replicas(target_loss=0.5, max_updates=2000)
    monkeypatch.setattr(
        trainer, "_noise_scale", lambda model, data, replica: models.append(copy.deepcopy(model)) or 8
    )
    _, noise = trainer._train_with_noise(8, 0.3, trainer._budget(100.0), 0)
    assert noise.noise_scale == pytest.approx(8)
    data = trainer.workload.replica_data(trainer.data, 0)
    budget = TargetLoss(0.0, max_updates=len(models) - 1, growth=1.0)
    last_iterates = train_and_evaluate(
        trainer.workload, data, Protocol.of(trainer.workload, budget, learning_rate=0.3), 8, 0
    )
    for model, (expected, *_) in zip(models[:5], last_iterates, strict=False):
        for value, parameter in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(value, parameter)


def test_updates_to_the_target_hardly_depend_on_the_growth_of_the_evaluations(monkeypatch):
    workload = noisy_quadratic(learning_rate=0.3, learning_rates=(0.3,), max_updates=3000)
    workload = replace(workload, target_loss=float(least_loss(workload)) + 0.1)
    trainer = Replicas(workload, workload.load(), CPU, 40, 1)

    def typical_updates(growth: float) -> float:
        monkeypatch.setattr("suite.advise.training.EVALUATION_GROWTH", growth)
        return trainer.run_at_rate(1, 0.3, 150.0).typical_updates

    assert typical_updates(EVALUATION_GROWTH) == pytest.approx(typical_updates(1.01), rel=0.05)


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
