"""Training one replica after another, with torch's own optimizer: slow and obvious."""

import itertools
from collections.abc import Iterator, Sequence

import pandas as pd
from torch import nn

from suite import seeds
from suite.backends import CPU, Backend
from suite.optimizers import set_learning_rate
from suite.training import looks
from suite.training.epoch import Batch, resident_batches
from suite.training.evaluate import evaluate
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload


def endless_batches(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int
) -> Iterator[Batch]:
    """The batches of epoch after epoch, drawn anew before each, in the order of `replica`."""
    generator = workload.generator("shuffle", batch_size, replica)
    examples = (data.train_inputs, data.train_targets)
    for epoch in itertools.count():
        size = protocol.batch_size(batch_size, epoch)
        yield from resident_batches(*examples, size, generator, protocol.with_replacement)


def trained(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `replica`, look at it whenever the protocol's budget says so, and return it with the table of `looks`.

    `data` is already split for the replica, and on the backend's device.
    """
    running, seen = looks_at(workload, data, protocol, batch_size, replica, backend), []
    while not (seen and looks.ends(0, protocol, seen)) and (found := next(running, None)):
        model, look = found
        seen.append(look)
    return model, looks.table(seen, protocol, len(data.train_inputs), batch_size)


def looks_at(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> Iterator[tuple[nn.Module, looks.Look]]:
    """The model of `replica` and a look at it whenever the protocol's budget says so, trained in between."""
    model = workload.initial_model(replica).to(backend.device.torch_device).train()
    optimizer = protocol.optimizer_at(batch_size).make(model, protocol.learning_rate)
    examples = len(data.train_inputs)
    batches = endless_batches(workload, data, protocol, batch_size, replica)
    dropout, updates = seeds.TorchStream("dropout", batch_size, replica, base_seed=workload.base_seed), 0
    for check in protocol.budget.checks(examples, batch_size):
        with dropout.running():
            while updates < check:
                set_learning_rate(optimizer, protocol.rate(examples, batch_size, updates))
                update(backend, model, workload.loss, optimizer, *next(batches))
                updates += 1
            train_loss_and_score = evaluate(workload, model, data.train_inputs, data.train_targets)
            test_loss_and_score = evaluate(workload, model, data.test_inputs, data.test_targets)
        yield model, (updates, *train_loss_and_score, *test_loss_and_score)


def train_in_turns(
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    backend: Backend = CPU,
    ended: looks.Ended = looks.ends,
) -> list[list[looks.Look]]:
    """What `lockstep.train` does, each replica alone: the looks at each. `data` is not split yet."""

    def alone(place: int) -> Iterator[list[looks.Look]]:
        own = workload.replica_data(data, replicas[place])
        for _, look in looks_at(workload, own, protocols[place], batch_size, replicas[place], backend):
            yield [look]

    running = {range(place, place + 1): alone(place) for place in range(len(replicas))}
    return looks.followed(running, protocols, ended)
