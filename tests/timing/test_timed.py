import itertools

import pytest
import torch

from suite.backends import CPU
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.timing.timed import Timed, load, save
from suite.workloads import Workload
from suite.workloads.workload import cross_entropy
from tests.conftest import blobs, tiny

PIPELINES = ("resident", "dataloader")


def timed_on(workload: Workload, input_pipeline: str, batch_size: int) -> Timed:
    return Timed(workload, load(workload), CPU, input_pipeline, batch_size)


def recorded(input_pipeline: str, batch_size: int) -> tuple[Timed, list[list[int]]]:
    """A timed model, and a list that gets the targets of each batch of which it computes a loss."""
    batches = []

    def loss(outputs, targets):
        batches.append(targets.tolist())
        return cross_entropy(outputs, targets)

    return timed_on(tiny(loss=loss), input_pipeline, batch_size), batches


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_a_timed_update_never_gets_the_smaller_batch_at_the_end_of_an_epoch(input_pipeline):
    timed, batches = recorded(input_pipeline, batch_size=16)
    timed.updates(7)
    assert [len(targets) for targets in batches] == [16] * 7


@pytest.mark.parametrize(("input_pipeline", "different"), [("resident", 1), ("dataloader", 5)])
def test_only_the_loader_fetches_a_new_batch_for_each_timed_update(input_pipeline, different):
    timed, batches = recorded(input_pipeline, batch_size=16)
    timed.updates(5)
    assert len(set(map(tuple, batches))) == different


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_a_timed_epoch_sees_every_example(input_pipeline):
    timed, batches = recorded(input_pipeline, batch_size=16)
    timed.epoch()
    assert [len(targets) for targets in batches] == [16, 16, 8]
    assert sorted(itertools.chain(*batches)) == sorted(timed.data.train_targets.tolist())


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_a_timed_update_trains_the_model(input_pipeline):
    timed = timed_on(tiny(), input_pipeline, batch_size=4)
    before = [parameter.clone() for parameter in timed.model.parameters()]
    timed.updates(1)
    assert not any(itertools.starmap(torch.equal, zip(before, timed.model.parameters(), strict=True)))


@pytest.mark.parametrize("input_pipeline", PIPELINES)
def test_the_number_of_threads_is_the_callers(input_pipeline):
    torch.set_num_threads(2)
    timed = timed_on(tiny(), input_pipeline, batch_size=4)
    timed.updates(1)
    assert torch.get_num_threads() == 2


OPTIMIZERS = (
    sgd(momentum=0.9, nesterov=True),
    adam(),
    adamw(weight_decay=0.1).group("*.bias", weight_decay=0),
    Optimizer.of(torch.optim.RMSprop),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_timed_update_steps_with_the_workloads_optimizer(optimizer):
    """On the same batch each time: as a loop over torch's own."""
    workload = tiny(optimizer=optimizer, learning_rate=0.03)
    timed = timed_on(workload, "resident", batch_size=4)
    inputs, targets = next(timed.next_batches)
    timed.updates(5)
    model = workload.initial_model(0)
    torch_optimizer = optimizer.make(model, 0.03)
    for _ in range(5):
        torch_optimizer.zero_grad()
        workload.loss(model(inputs), targets).mean().backward()
        torch_optimizer.step()
    assert type(timed.optimizer) is optimizer.torch_class
    assert all(map(torch.equal, timed.model.parameters(), model.parameters()))


def test_each_base_seed_is_timed_with_its_own_split_and_batches():
    targets = [
        next(timed_on(tiny(base_seed=base_seed), "dataloader", batch_size=16).next_batches)[1]
        for base_seed in (1, 1, 2)
    ]
    assert torch.equal(targets[0], targets[1])
    assert not torch.equal(targets[0], targets[2])


def test_a_saved_split_is_loaded_instead_of_the_workloads(tmp_path):
    save(blobs(8), tmp_path / "data.pt")
    assert torch.equal(load(tiny(), tmp_path / "data.pt").train_inputs, blobs(8).train_inputs)
    assert torch.equal(load(tiny()).train_inputs, blobs().resplit(0).train_inputs)
