"""Training many replicas at once, as ensembles; the reference implementation is `suite.training.plain`."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from suite import seeds
from suite.training import looks
from suite.training.ensemble import Ensemble, mean_over
from suite.training.epoch import drawn
from suite.training.protocol import Protocol, updates_per_epoch
from suite.training.repaid import Compiling
from suite.workloads import Data, Workload


class Examples:
    """What a pack of replicas is trained and tested on: `inputs` and `targets`, with each replica's own `train` and
    `test` indices into them ([R, N] and [R, M]), or none where all share one split."""

    def __init__(self, workload: Workload, data: Data, replicas: Sequence[int]):
        self.workload, self.data, self.own = workload, data, workload.resplit
        self.count = len(data.train_inputs)
        self.inputs, self.targets = data.train_inputs, data.train_targets
        if self.own:
            self.inputs, self.targets = data.pooled()
            splits = [data.split(replica, workload.base_seed) for replica in replicas]
            self.train, self.test = (torch.stack(parts).to(self.inputs.device) for parts in zip(*splits, strict=True))

    def batches(self, protocol: Protocol, batch_size: int, replicas: Sequence[int]) -> Iterator[Tensor]:
        """Indices [R, B] of each replica's next batch, epoch after epoch; the batches of `plain.endless_batches`."""
        generators = [self.workload.generator("shuffle", batch_size, replica) for replica in replicas]
        for epoch in itertools.count():
            size = protocol.batch_size(batch_size, epoch)
            order = torch.stack([drawn(self.count, one, protocol.with_replacement) for one in generators])
            order = order.to(self.inputs.device)
            if self.own:
                order = self.train.gather(1, order)
            whole = self.count // size
            batches = order[:, : whole * size].unflatten(1, (whole, size)).transpose(0, 1).contiguous()
            yield from batches.unbind()
            if whole * size < self.count:
                yield order[:, whole * size :].contiguous()

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
    compiling: Compiling,
    ended: looks.Ended = looks.ends,
) -> list[list[looks.Look]]:
    """Train replica `replicas[i]` by `protocols[i]`, `replicas_per_call` of them in a call: the looks at each, up to
    that at which it has `ended`. All protocols are alike but for their rates. `data` is not split yet."""
    count = len(replicas)
    running = {}
    for first in range(0, count, replicas_per_call):
        places = range(first, min(first + replicas_per_call, count))
        full = [*places, *[places[-1]] * (replicas_per_call - len(places))]
        pack = [replicas[place] for place in full]
        running[places] = _looks(workload, data, [protocols[place] for place in full], batch_size, pack, compiling)
    return looks.followed(running, protocols, ended)


def _looks(
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    compiling: Compiling,
) -> Iterator[list[looks.Look]]:
    """The looks at a pack of replicas whenever the budget says so, trained in between."""
    protocol = protocols[0]
    examples = Examples(workload, data, replicas)
    rates = _rates(protocols, examples.count, batch_size, 0)
    ensemble = Ensemble(workload, replicas, rates, protocol.optimizer_at(batch_size), examples.inputs.device)
    an_epoch = updates_per_epoch(examples.count, batch_size)
    batches = examples.batches(protocol, batch_size, replicas)
    dropout = seeds.TorchStream("dropout", batch_size, replicas[0], base_seed=workload.base_seed)
    updates, compiled = 0, set()
    for check in protocol.budget.checks(examples.count, batch_size):
        with dropout.running():
            for indices in itertools.islice(batches, check - updates):
                size = indices.shape[1]
                if size not in compiled and compiling.due(size):
                    ensemble.compile(examples.inputs, examples.targets, size)
                    compiled.add(size)
                if protocol.rate_rule.moves(updates, an_epoch):
                    rates = _rates(protocols, examples.count, batch_size, updates)
                    ensemble.learning_rates.copy_(torch.tensor(rates, dtype=torch.float64))
                ensemble.update(examples.inputs, examples.targets, indices)
                updates += 1
            found = list(examples.look(ensemble, updates))
        yield found


def _rates(protocols: Sequence[Protocol], examples: int, batch_size: int, updates: int) -> list[float]:
    return [protocol.rate(examples, batch_size, updates) for protocol in protocols]
