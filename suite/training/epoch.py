"""The epoch: shuffle the examples, then make one update from each batch.

It has two input pipelines: `resident` gathers each batch by index from tensors on the device, `dataloader` collates
the same batches from single examples with torch's DataLoader.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from suite.backends import Backend, PerExampleLoss
from suite.training.update import update

Batch = tuple[Tensor, Tensor]


def epoch_indices(examples: int, generator: torch.Generator, with_replacement: bool = False) -> Tensor:
    """Indices [N] of the examples of one epoch: a random permutation, or N independent draws."""
    if with_replacement:
        return torch.randint(examples, (examples,), generator=generator)
    return torch.randperm(examples, generator=generator)


def resident_batches(
    inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator, with_replacement: bool = False
) -> Iterator[Batch]:
    """The batches of one epoch, gathered on the device of `inputs` [N, ...]. The last batch may be smaller."""
    order = epoch_indices(len(inputs), generator, with_replacement).to(inputs.device)
    for indices in order.split(batch_size):
        yield inputs[indices], targets[indices]


def loader_batches(
    inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[Batch]:
    """The batches of one epoch, collated from single examples in this process and copied to `device`."""
    dataset = TensorDataset(inputs, targets)
    loader = DataLoader(dataset, batch_size, shuffle=True, generator=generator)
    for batch_inputs, batch_targets in loader:
        yield batch_inputs.to(device), batch_targets.to(device)


def epoch(
    backend: Backend,
    model: nn.Module,
    loss: PerExampleLoss,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
) -> int:
    """Make one update from each of `batches`, and return the number of updates."""
    updates = 0
    for inputs, targets in batches:
        update(backend, model, loss, optimizer, inputs, targets)
        updates += 1
    return updates
