"""The trainings behind an advice."""

import math
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from suite.advise import training
from suite.advise.measured import Trained
from suite.advise.training import EARLY, HALVED, Replicas
from suite.backends import BACKENDS, CPU
from tests.conftest import blobs, tiny


def replicas(backend=CPU, **facts) -> Replicas:
    workload = tiny(**facts)
    return Replicas(workload, workload.load(), backend, 3, 1)


def test_no_look_is_taken_long_before_the_target_is_expected():
    budget = replicas(max_updates=10_000)._budget(400)
    checks = list(budget.checks(examples=40, batch_size=4))
    assert checks[0] == 0
    assert checks[1] >= EARLY * 400 > 1
    assert list(replicas(max_updates=10_000)._budget(math.inf).checks(40, 4))[1] == 1


def test_a_rate_at_which_some_replicas_are_stuck_is_halved_and_every_rate_is_told():
    tried = Trained(4, 0.8, (50.0, 60.0), rates=(0.4, 0.8))
    asked = []

    def finally_trained(rate, budget):
        asked.append(rate)
        return replace(tried, learning_rate=rate, updates=(50.0, math.inf))

    found = replicas()._halved(tried, finally_trained)
    assert asked == pytest.approx([0.8 / 2**power for power in range(HALVED + 1)])
    assert found.learning_rate == pytest.approx(0.2)
    assert found.rates == pytest.approx((0.2, 0.4, 0.8))


def test_without_room_for_an_ensemble_the_replicas_are_trained_in_turns(monkeypatch):
    seen, train = [], training.engine.train

    def limited(workload, data, cell, *rest):
        seen.append(cell.replicas_per_call)
        if cell.replicas_per_call > 2:
            raise MemoryError("no room for so many replicas")
        return train(workload, data, cell, *rest)

    monkeypatch.setattr(training.engine, "train", limited)
    monkeypatch.setattr("suite.training.tuning.train", limited)
    monkeypatch.setattr(training, "WORTH_A_CALL", 3)
    trainer, in_turns = replicas(), replicas()
    in_turns.as_ensemble = False
    assert trainer.trained(4, 0.1, 50.0) == in_turns.trained(4, 0.1, 50.0)
    assert seen[0] > 2
    assert max(seen[1:]) == 1
    monkeypatch.setattr("suite.training.tuning.train", none := Mock(side_effect=MemoryError("no room")))
    with pytest.raises(MemoryError):
        trainer.trained(4, 0.1, 50.0)
    none.assert_called_once()


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


@pytest.mark.parametrize(("name", "as_timed"), [("cpu", True), ("sequential", False)])
def test_what_is_timed_one_example_at_a_time_is_trained_at_once(name, as_timed):
    assert replicas(BACKENDS[name]).as_timed == as_timed


def test_no_training_takes_less_than_an_update():
    at_start = Trained(4, 0.1, (0.0, 0.4, math.e))
    assert at_start.logs == pytest.approx([0, 0, 1])
    assert at_start.at_start


def test_each_base_seed_has_its_own_trainings():
    first, again, other = (replicas(base_seed=base_seed) for base_seed in (1, 1, 2))
    assert first.noise_scale_at_start() == again.noise_scale_at_start() != other.noise_scale_at_start()
    assert first.trained(4, 0.1, 50.0) == again.trained(4, 0.1, 50.0) != other.trained(4, 0.1, 50.0)
