import itertools

import pytest
import torch

from suite.backends import CPU, SEQUENTIAL
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.timings import Timed
from suite.workloads.workload import cross_entropy
from tests.conftest import tiny

PIPELINES = ("resident", "dataloader")


def watched(input_pipeline: str, batch_size: int) -> tuple[Timed, list[list[int]]]:
    """What is timed, and a list that gets the targets of each batch that it computes a loss of."""
    seen = []

    def loss(outputs, targets):
        seen.append(targets.tolist())
        return cross_entropy(outputs, targets)

    return Timed(tiny(loss=loss), CPU, input_pipeline, batch_size), seen


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_a_timed_update_never_gets_the_smaller_batch_at_the_end_of_an_epoch(input_pipeline):
    timed, seen = watched(input_pipeline, batch_size=16)
    timed.updates(7)
    assert [len(targets) for targets in seen] == [16] * 7


@pytest.mark.parametrize(("input_pipeline", "different"), [("resident", 1), ("dataloader", 5)])
def test_only_the_loader_fetches_a_new_batch_for_each_timed_update(input_pipeline, different):
    timed, seen = watched(input_pipeline, batch_size=16)
    timed.updates(5)
    assert len(set(map(tuple, seen))) == different


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_a_timed_epoch_sees_every_example(input_pipeline):
    timed, seen = watched(input_pipeline, batch_size=16)
    timed.epoch()
    assert [len(targets) for targets in seen] == [16, 16, 8]
    assert sorted(itertools.chain(*seen)) == sorted(timed.data.train_targets.tolist())


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_what_is_timed_trains_the_model(input_pipeline):
    timed = Timed(tiny(), CPU, input_pipeline, batch_size=4)
    before = [parameter.clone() for parameter in timed.model.parameters()]
    timed.updates(1)
    assert not any(itertools.starmap(torch.equal, zip(before, timed.model.parameters(), strict=True)))


@pytest.mark.parametrize(("backend", "threads"), [(CPU, 2), (SEQUENTIAL, 1)])
def test_one_example_at_a_time_is_timed_on_one_thread(backend, threads):
    Timed(tiny(), backend, "resident", batch_size=4, threads=2)
    assert torch.get_num_threads() == threads


OPTIMIZERS = (
    sgd(momentum=0.9, nesterov=True),
    adam(),
    adamw(weight_decay=0.1).group("*.bias", weight_decay=0),
    Optimizer.of(torch.optim.RMSprop),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_what_is_timed_steps_with_the_workloads_own_optimizer(optimizer):
    """From the same batch each time: as a loop over torch's own."""
    workload = tiny(optimizer=optimizer, learning_rate=0.03)
    timed = Timed(workload, CPU, "resident", batch_size=4)
    inputs, targets = next(timed.fed)
    timed.updates(5)
    model = workload.initial_model(0)
    made = optimizer.make(model, 0.03)
    for _ in range(5):
        made.zero_grad()
        workload.loss(model(inputs), targets).mean().backward()
        made.step()
    assert type(timed.optimizer) is optimizer.torch_class
    assert all(map(torch.equal, timed.model.parameters(), model.parameters()))


def test_each_base_seed_is_timed_with_its_own_split_and_batches():
    targets = [
        next(Timed(tiny(base_seed=base_seed), CPU, "dataloader", batch_size=16).fed)[1] for base_seed in (1, 1, 2)
    ]
    assert torch.equal(targets[0], targets[1])
    assert not torch.equal(targets[0], targets[2])
