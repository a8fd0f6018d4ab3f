"""The examples of a workload."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from suite import seeds


@dataclass(frozen=True)
class Data:
    """Training and test examples, on the CPU.

    `train_inputs` [N, ...] and `test_inputs` [M, ...] are inputs of the model, one example per row; `train_targets`
    [N, ...] and `test_targets` [M, ...] are the targets of the loss.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of all examples, training before test."""
        return torch.cat([self.train_inputs, self.test_inputs]), torch.cat([self.train_targets, self.test_targets])

    def split(self, replica: int, base_seed: int = 0) -> tuple[Tensor, Tensor]:
        """Indices of the pooled examples that `replica` trains on and of those that it is tested on: a random split
        into sets of the same sizes."""
        sizes = [len(self.train_inputs), len(self.test_inputs)]
        generator = seeds.generator("split", replica, base_seed=base_seed)
        return torch.randperm(sum(sizes), generator=generator).split(sizes)

    def resplit(self, replica: int, base_seed: int = 0) -> Data:
        """The same examples in the split of `replica`."""
        (inputs, targets), (train, test) = self.pooled(), self.split(replica, base_seed)
        return Data(inputs[train], targets[train], inputs[test], targets[test])

    def to(self, device: torch.device) -> Data:
        return Data(
            self.train_inputs.to(device),
            self.train_targets.to(device),
            self.test_inputs.to(device),
            self.test_targets.to(device),
        )
