"""Training of many replicas at once, as ensembles. The reference implementation is `suite.training.plain`."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from suite import seeds
from suite.training import evaluations
from suite.training.compile_policy import CompilePolicy
from suite.training.ensemble import Ensemble, mean_over
from suite.training.epoch import epoch_indices
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload


class Examples:
    """The examples of a pack of R replicas: `inputs` and `targets`, with the `train` and `test` indices of each
    replica ([R, N] and [R, M]) where the workload has `resplit`."""

    def __init__(self, workload: Workload, data: Data, replicas: Sequence[int]):
        self.workload, self.data, self.resplit = workload, data, workload.resplit
        self.count = len(data.train_inputs)
        self.inputs, self.targets = data.train_inputs, data.train_targets
        if self.resplit:
            self.inputs, self.targets = data.pooled()
            splits = [data.split(replica, workload.base_seed) for replica in replicas]
            self.train, self.test = (torch.stack(parts).to(self.inputs.device) for parts in zip(*splits, strict=True))

    def batches(self, protocol: Protocol, batch_size: int, replicas: Sequence[int]) -> Iterator[Tensor]:
        """Indices [R, B] of the next batch of each replica, the same batches as in `plain.endless_batches`."""
        generators = [self.workload.generator("shuffle", batch_size, replica) for replica in replicas]
        for epoch in itertools.count():
            size = protocol.batch_size(batch_size, epoch)
            order = torch.stack(
                [epoch_indices(self.count, generator, protocol.with_replacement) for generator in generators]
            ).to(self.inputs.device)
            if self.resplit:
                order = self.train.gather(1, order)
            whole = self.count // size
            batches = order[:, : whole * size].unflatten(1, (whole, size)).transpose(0, 1).contiguous()
            yield from batches.unbind()
            if whole * size < self.count:
                yield order[:, whole * size :].contiguous()

    def evaluate(self, ensemble: Ensemble, updates: int) -> Iterator[evaluations.Evaluation]:
        """The evaluation of each replica, after `updates`."""
        if self.resplit:
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
    policy: CompilePolicy,
    ended: evaluations.Ended = evaluations.ends,
) -> list[list[evaluations.Evaluation]]:
    """Train replica `replicas[i]` by `protocols[i]` until it has `ended`, and return the evaluations of each.

    A call trains `replicas_per_call` replicas; the last one of an incomplete pack is repeated. The protocols may only
    differ in their learning rates. `data` is not split yet.
    """
    count = len(replicas)
    packs = {}
    for first in range(0, count, replicas_per_call):
        places = range(first, min(first + replicas_per_call, count))
        padded = [*places, *[places[-1]] * (replicas_per_call - len(places))]
        pack_protocols, pack_replicas = [protocols[place] for place in padded], [replicas[place] for place in padded]
        packs[places] = _train_pack(workload, data, pack_protocols, batch_size, pack_replicas, policy)
    return evaluations.run_packs(packs, protocols, ended)


def _train_pack(
    workload: Workload,
    data: Data,
    protocols: Sequence[Protocol],
    batch_size: int,
    replicas: Sequence[int],
    policy: CompilePolicy,
) -> Iterator[list[evaluations.Evaluation]]:
    """Train a pack of replicas, and yield the evaluations of all of them at each check of the budget."""
    protocol = protocols[0]
    examples = Examples(workload, data, replicas)
    rates = _rates(protocols, examples.count, batch_size, 0)
    ensemble = Ensemble(workload, replicas, rates, protocol.optimizer_at(batch_size), examples.inputs.device)
    if protocol.averaged:
        ensemble.average_parameters()
    batches = examples.batches(protocol, batch_size, replicas)
    dropout = seeds.TorchStream("dropout", batch_size, replicas[0], base_seed=workload.base_seed)
    updates, compiled = 0, set()
    for check in protocol.budget.checks(examples.count, batch_size):
        with dropout.running():
            for indices in itertools.islice(batches, check - updates):
                size = indices.shape[1]
                if size not in compiled and policy.should_compile(size):
                    ensemble.compile(examples.inputs, examples.targets, size)
                    compiled.add(size)
                if protocol.rate_moves(examples.count, batch_size, updates):
                    rates = _rates(protocols, examples.count, batch_size, updates)
                    ensemble.learning_rates.copy_(torch.tensor(rates, dtype=torch.float64))
                ensemble.update(examples.inputs, examples.targets, indices)
                updates += 1
            pack_evaluations = list(examples.evaluate(ensemble, updates))
        yield pack_evaluations


def _rates(protocols: Sequence[Protocol], examples: int, batch_size: int, updates: int) -> list[float]:
    return [protocol.rate(examples, batch_size, updates) for protocol in protocols]
