"""The reference implementation of training: one replica after another, with torch's optimizer."""

import copy
import itertools
from collections.abc import Iterator, Sequence

import pandas as pd
from torch import Tensor, nn

from suite import seeds
from suite.backends import CPU, Backend
from suite.optimizers import set_learning_rate
from suite.training import evaluations
from suite.training.average import RunningAverage
from suite.training.epoch import Batch, resident_batches
from suite.training.evaluate import evaluate
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload


def endless_batches(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int
) -> Iterator[Batch]:
    """The batches of `replica`, epoch after epoch; each epoch is shuffled anew."""
    generator = workload.generator("shuffle", batch_size, replica)
    examples = (data.train_inputs, data.train_targets)
    for epoch in itertools.count():
        size = protocol.batch_size(batch_size, epoch)
        yield from resident_batches(*examples, size, generator, protocol.with_replacement)


def trained(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `replica`, and return the evaluated model with the table of its evaluations (`evaluations.table`).

    `data` is already in the split of the replica, and on the backend's device.
    """
    steps, history = train_and_evaluate(workload, data, protocol, batch_size, replica, backend), []
    while (step := next(steps, None)) is not None:
        _, evaluated, evaluation = step
        history.append(evaluation)
        if evaluations.ends(0, protocol, history):
            break
    return evaluated, evaluations.table(history, protocol, len(data.train_inputs), batch_size)


def train_and_evaluate(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replica: int, backend: Backend = CPU
) -> Iterator[tuple[nn.Module, nn.Module, evaluations.Evaluation]]:
    """Train `replica`, and yield its model, the evaluated model and an evaluation at each check of the budget.

    The evaluated model has the averaged parameters where the protocol evaluates these; else it is the model itself.
    """
    model = workload.initial_model(replica).to(backend.device.torch_device).train()
    evaluated, average = model, None
    if protocol.averaged:
        evaluated = copy.deepcopy(model)
        average = RunningAverage(_state(model), _state(evaluated))
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
                if average:
                    average.update()
            train_loss_and_score = evaluate(workload, evaluated, data.train_inputs, data.train_targets)
            test_loss_and_score = evaluate(workload, evaluated, data.test_inputs, data.test_targets)
        yield model, evaluated, (updates, *train_loss_and_score, *test_loss_and_score)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def train_in_turns(
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    backend: Backend = CPU,
    ended: evaluations.Ended = evaluations.ends,
) -> list[list[evaluations.Evaluation]]:
    """Train replica `replicas[i]` by `protocols[i]` until it has `ended`, and return the evaluations of each.

    The replicas take turns from evaluation to evaluation. `data` is not split yet.
    """

    def train_alone(place: int) -> Iterator[list[evaluations.Evaluation]]:
        replica, protocol = replicas[place], protocols[place]
        split = workload.replica_data(data, replica)
        for *_, evaluation in train_and_evaluate(workload, split, protocol, batch_size, replica, backend):
            yield [evaluation]

    packs = {range(place, place + 1): train_alone(place) for place in range(len(replicas))}
    return evaluations.run_packs(packs, protocols, ended)
