"""Training many replicas at once, as ensembles; `suite.training.plain` is its twin."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from suite import seeds
from suite.training import looks
from suite.training.ensemble import Ensemble, mean_over
from suite.training.packing import WORK, parameter_count
from suite.training.protocol import Protocol, updates_per_epoch
from suite.workloads import Data, Workload

CALLS_BEFORE_COMPILING = 2000
"""Compiling takes about as long as so many eager calls of a small ensemble lose: 1 ms each. It takes 5 s, and 0.5 s
where another cell has compiled the same."""
LOST_BY_WORK = 5
"""How many times more an eager call loses that does the work of `packing.WORK`."""


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
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    replicas_per_call: int,
    expected_updates: int,
    ended: looks.Ended = looks.ends,
) -> list[list[looks.Look]]:
    """Train replica `replicas[i]` by `protocols[i]`, `replicas_per_call` of them in a call: the looks at each, up to
    that at which it has `ended`. All protocols are alike but for their rates. `data` is not split yet. Each is
    expected to make so many updates."""
    count = len(replicas)
    packs = math.ceil(count / replicas_per_call)
    work = replicas_per_call * parameter_count(workload)
    guessed = protocols[0].budget.needs_target
    compiling = _compiling(packs * expected_updates, guessed, work, len(data.train_inputs), batch_size)
    running = {}
    for first in range(0, count, replicas_per_call):
        places = range(first, min(first + replicas_per_call, count))
        full = [*places, *[places[-1]] * (replicas_per_call - len(places))]
        pack = [replicas[place] for place in full]
        running[places] = _looks(workload, data, [protocols[place] for place in full], batch_size, pack, compiling)
    return looks.followed(running, protocols, ended)


class Compiling:
    """When to compile: at once where the calls to come repay it or, if these are a guess, are twice as many as that;
    else, if they are a guess, after as many eager ones.

    What an eager call loses grows with its `work`, parameters times examples.
    """

    def __init__(self, expected: float, guessed: bool, work: int):
        self.expected, self.guessed, self.weight, self.made = expected, guessed, 1 + LOST_BY_WORK * work / WORK, 0

    def due(self) -> bool:
        self.made += 1
        repaid_by = max(self.expected / 2, self.made) if self.guessed else self.expected
        return repaid_by * self.weight > CALLS_BEFORE_COMPILING


def _compiling(expected: int, guessed: bool, work: int, examples: int, batch_size: int) -> dict[int, Compiling]:
    """For batches of `batch_size`, and for the smaller last ones of an epoch; `work` is that of one example."""
    per_epoch = updates_per_epoch(examples, batch_size)
    calls = {batch_size: examples // batch_size, examples % batch_size: 1}
    return {
        size: Compiling(expected * count / per_epoch, guessed, work * size)
        for size, count in calls.items()
        if size and count
    }


def _looks(
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    compiling: dict[int, Compiling],
) -> Iterator[list[looks.Look]]:
    """The looks at a pack of replicas whenever the budget says so, trained in between."""
    protocol = protocols[0]
    examples = Examples(workload, data, replicas)
    momenta = [one.momentum for one in protocols]
    rates = _rates(protocols, examples.count, batch_size, 0)
    ensemble = Ensemble(workload, replicas, rates, momenta, protocol.update_rule, examples.inputs.device)
    warm_up = protocol.rate_rule.warm_up_updates(updates_per_epoch(examples.count, batch_size))
    batches, dropout = examples.batches(batch_size, replicas), seeds.TorchStream("dropout", batch_size, replicas[0])
    updates, eager = 0, set(compiling)
    for check in protocol.budget.checks(examples.count, batch_size):
        with dropout.running():
            for indices in itertools.islice(batches, check - updates):
                size = indices.shape[1]
                if size in eager and compiling[size].due():
                    ensemble.compile(examples.inputs, examples.targets, size)
                    eager.remove(size)
                if 0 < updates <= warm_up:
                    rates = _rates(protocols, examples.count, batch_size, updates)
                    ensemble.learning_rates.copy_(torch.tensor(rates))
                ensemble.update(examples.inputs, examples.targets, indices)
                updates += 1
            found = list(examples.look(ensemble, updates))
        yield found


def _rates(protocols: Sequence[Protocol], examples: int, batch_size: int, updates: int) -> list[float]:
    return [protocol.rate(examples, batch_size, updates) for protocol in protocols]
