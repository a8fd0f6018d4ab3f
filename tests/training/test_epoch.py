import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suite.backends import CPU
from suite.training.epoch import epoch, epoch_indices, loader_batches, resident_batches
from suite.training.update import update
from tests.conftest import blobs, tiny

sizes = {"examples": st.integers(1, 100), "batch_size": st.integers(1, 120), "seed": st.integers(0, 2**31)}
input_pipelines = pytest.mark.parametrize(
    "input_pipeline",
    [resident_batches, partial(loader_batches, device=torch.device("cpu"))],
    ids=["resident", "dataloader"],
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def epoch_batches(
    input_pipeline, examples: int, batch_size: int, random: torch.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch over examples whose input and target both equal their index."""
    numbers = torch.arange(examples)
    return list(input_pipeline(numbers[:, None].float(), numbers, batch_size, generator=random))


def order(input_pipeline, examples: int, batch_size: int, random: torch.Generator) -> list[int]:
    return torch.cat([targets for _, targets in epoch_batches(input_pipeline, examples, batch_size, random)]).tolist()


@input_pipelines
@given(**sizes)
def test_every_example_appears_exactly_once(input_pipeline, examples, batch_size, seed):
    assert sorted(order(input_pipeline, examples, batch_size, generator(seed))) == list(range(examples))


@input_pipelines
@given(**sizes)
def test_every_input_is_paired_with_its_target(input_pipeline, examples, batch_size, seed):
    for inputs, targets in epoch_batches(input_pipeline, examples, batch_size, generator(seed)):
        assert torch.equal(inputs, targets[:, None].float())


@input_pipelines
@given(**sizes)
def test_only_the_last_batch_may_be_smaller(input_pipeline, examples, batch_size, seed):
    lengths = [len(targets) for _, targets in epoch_batches(input_pipeline, examples, batch_size, generator(seed))]
    assert len(lengths) == math.ceil(examples / batch_size)
    assert all(length == batch_size for length in lengths[:-1])
    assert 1 <= lengths[-1] <= batch_size


@input_pipelines
@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 60))
def test_every_epoch_has_a_new_order(input_pipeline, seed, batch_size):
    random = generator(seed)
    assert order(input_pipeline, 50, batch_size, random) != order(input_pipeline, 50, batch_size, random)


@input_pipelines
@given(**sizes)
def test_the_same_seed_gives_the_same_order(input_pipeline, examples, batch_size, seed):
    assert order(input_pipeline, examples, batch_size, generator(seed)) == order(
        input_pipeline, examples, batch_size, generator(seed)
    )


@given(batch_size=st.integers(1, 50))
def test_an_epoch_makes_one_update_from_each_batch(batch_size):
    data, workload = blobs(), tiny()
    batches = list(resident_batches(data.train_inputs, data.train_targets, batch_size, generator(0)))
    model, reference = workload.initial_model(0), workload.initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert epoch(CPU, model, workload.loss, optimizer, batches) == math.ceil(40 / batch_size)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for batch in batches:
        update(CPU, reference, workload.loss, optimizer, *batch)
    assert all(map(torch.equal, model.parameters(), reference.parameters()))


def test_draws_with_replacement_are_independent():
    """Each example is missing from n draws with probability (1 - 1/n)^n, and the first half of the draws is
    independent of the second half."""
    count = 4000
    order = epoch_indices(count, generator(1), with_replacement=True)
    assert order.shape == (count,)
    missed = 1 - len(order.unique()) / count
    assert missed == pytest.approx((1 - 1 / count) ** count, abs=4 * (0.1 / count) ** 0.5)
    repeated = torch.isin(order[count // 2 :], order[: count // 2]).float().mean()
    assert repeated == pytest.approx(1 - (1 - 1 / count) ** (count / 2), abs=0.05)
