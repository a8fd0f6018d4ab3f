import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from suite.backends import CPU
from suite.training.epoch import epoch, loader_batches, resident_batches, shuffled_batches
from tests.conftest import blobs, tiny

sizes = {"examples": st.integers(1, 200), "batch_size": st.integers(1, 250), "seed": st.integers(0, 2**31)}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(**sizes)
def test_every_example_appears_exactly_once(examples, batch_size, seed):
    batches = shuffled_batches(examples, batch_size, generator(seed))
    assert sorted(torch.cat(batches).tolist()) == list(range(examples))


@given(**sizes)
def test_only_the_last_batch_may_be_smaller(examples, batch_size, seed):
    lengths = [len(batch) for batch in shuffled_batches(examples, batch_size, generator(seed))]
    assert len(lengths) == math.ceil(examples / batch_size)
    assert all(length == batch_size for length in lengths[:-1])
    assert 1 <= lengths[-1] <= batch_size


@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 60))
def test_every_epoch_is_shuffled_afresh(seed, batch_size):
    one = generator(seed)
    first, second = (torch.cat(shuffled_batches(50, batch_size, one)) for _ in range(2))
    assert not torch.equal(first, second)


@given(**sizes)
def test_a_seed_gives_the_same_order_again(examples, batch_size, seed):
    first, second = (torch.cat(shuffled_batches(examples, batch_size, generator(seed))) for _ in range(2))
    assert torch.equal(first, second)


@given(examples=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_both_arms_feed_every_example_once_with_its_own_target(examples, batch_size, seed):
    inputs, targets = torch.arange(examples)[:, None].float(), torch.arange(examples)
    for batches in (
        list(resident_batches(inputs, targets, batch_size, generator(seed))),
        list(loader_batches(inputs, targets, batch_size, generator(seed), torch.device("cpu"))),
    ):
        assert all(torch.equal(batch_inputs[:, 0].long(), batch_targets) for batch_inputs, batch_targets in batches)
        assert sorted(torch.cat([batch_targets for _, batch_targets in batches]).tolist()) == list(range(examples))
        assert [len(batch) for _, batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


@given(batch_size=st.integers(1, 50))
def test_an_epoch_makes_one_update_from_each_batch(batch_size):
    data, model = blobs(), tiny().initial_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = resident_batches(data.train_inputs, data.train_targets, batch_size, generator(0))
    assert epoch(CPU, model, tiny().loss, optimizer, batches) == math.ceil(40 / batch_size)
