"""Training many replicas at once, as ensembles; `suite.training.plain` is its twin."""

import itertools
import math
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from suite import seeds
from suite.training import looks
from suite.training.ensemble import Ensemble, mean_over
from suite.training.packing import WORK, parameter_count
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload

CALLS_BEFORE_COMPILING = 2000
"""Compiling takes about as long as so many eager calls of a small ensemble lose: 5 s, and 2 ms each."""


class Examples:
    """What a pack of replicas is trained and tested on: `inputs` and `targets`, with each replica's own `train` and
    `test` indices into them ([R, N] and [R, M]), or none where all share one split."""

    def __init__(self, workload: Workload, data: Data, replicas: Sequence[int]):
        self.data, self.own = data, workload.resplit
        self.count = len(data.train_inputs)
        self.inputs, self.targets = data.train_inputs, data.train_targets
        if self.own:
            self.inputs, self.targets = data.pooled()
            splits = [data.split(replica) for replica in replicas]
            self.train, self.test = (torch.stack(parts).to(self.inputs.device) for parts in zip(*splits, strict=True))

    def batches(self, batch_size: int, replicas: Sequence[int]) -> Iterator[Tensor]:
        """Indices [R, B] of each replica's next batch, epoch after epoch; the batches of `plain.endless_batches`."""
        generators = [seeds.generator("shuffle", batch_size, replica) for replica in replicas]
        while True:
            order = torch.stack([torch.randperm(self.count, generator=generator) for generator in generators])
            order = order.to(self.inputs.device)
            if self.own:
                order = self.train.gather(1, order)
            whole = self.count // batch_size
            batches = order[:, : whole * batch_size].unflatten(1, (whole, batch_size)).transpose(0, 1).contiguous()
            yield from batches.unbind()
            if whole * batch_size < self.count:
                yield order[:, whole * batch_size :].contiguous()

    def look(self, ensemble: Ensemble, updates: int) -> Iterator[looks.Look]:
        """How good each replica is after so many updates."""
        if self.own:
            values = ensemble.losses_and_scores(self.inputs, self.targets)
            train, test = (mean_over(values, part) for part in (self.train, self.test))
        else:
            train = ensemble.evaluate(self.inputs, self.targets)
            test = ensemble.evaluate(self.data.test_inputs, self.data.test_targets)
        columns = torch.stack([*train, *test]).tolist()
        return ((updates, *values) for values in zip(*columns, strict=True))


def train(
    workload: Workload, data: Data, protocol: Protocol, batch_size: int, replicas: int, replicas_per_call: int
) -> pd.DataFrame:
    """Train replicas 0 ... `replicas` - 1, `replicas_per_call` at a time: the table of `looks` of each, with a column
    `seed`. `data` is not split yet."""
    packs = math.ceil(replicas / replicas_per_call)
    updates_per_epoch = math.ceil(len(data.train_inputs) / batch_size)
    work = replicas_per_call * batch_size * parameter_count(workload)
    compiling = Compiling(packs * protocol.budget.expected_updates(updates_per_epoch), work)
    seen = []
    for first in range(0, packs * replicas_per_call, replicas_per_call):
        pack = range(first, first + replicas_per_call)
        with seeds.torch_seeded("dropout", batch_size, first):
            seen += _train_pack(workload, data, protocol, batch_size, pack, compiling, wanted=replicas - first)
    tables = [looks.table(of_replica, protocol, updates_per_epoch) for of_replica in seen[:replicas]]
    return pd.concat(tables, keys=range(replicas), names=["seed"]).reset_index("seed")


class Compiling:
    """When to compile: at once where the `expected` calls repay it, else after as many eager ones.

    What an eager call loses grows with its `work`, parameters times examples: it is doubled by `packing.WORK`.
    """

    def __init__(self, expected: int, work: int):
        self.expected, self.weight, self.made = expected, 1 + work / WORK, 0

    def due(self) -> bool:
        self.made += 1
        return max(self.expected / 2, self.made) * self.weight > CALLS_BEFORE_COMPILING


def _train_pack(
    workload: Workload,
    data: Data,
    protocol: Protocol,
    batch_size: int,
    replicas: range,
    compiling: Compiling,
    wanted: int,
) -> list[list[looks.Look]]:
    """The looks at each of `replicas`, of which the first `wanted` say when to stop."""
    examples = Examples(workload, data, replicas)
    ensemble = Ensemble(workload, replicas, protocol.learning_rate, device=examples.inputs.device)
    updates_per_epoch = math.ceil(examples.count / batch_size)
    batches = examples.batches(batch_size, replicas)
    seen, updates, fast = [[] for _ in replicas], 0, False
    for check in protocol.budget.checks(updates_per_epoch):
        for indices in itertools.islice(batches, check - updates):
            if not fast and compiling.due():
                ensemble.compile(examples.inputs, examples.targets, batch_size)
                fast = True
            ensemble.update(examples.inputs, examples.targets, indices)
        updates = check
        for of_replica, look in zip(seen, examples.look(ensemble, updates), strict=True):
            if not (of_replica and looks.ends(of_replica[-1], protocol)):
                of_replica.append(look)
        if all(looks.ends(of_replica[-1], protocol) for of_replica in seen[:wanted]):
            break
    return seen
