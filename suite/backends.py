"""Where an update runs: one example at a time, a whole batch on the CPU, or a whole batch on a GPU.

Every backend computes the same gradient, that of the batch's mean loss; only the way differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Backend:
    """A way to compute the gradient of a batch."""

    name: str
    about: str
    gradient: Callable[[nn.Module, PerExampleLoss, Tensor, Tensor], None]
    """`gradient(model, loss, inputs [B, ...], targets [B, ...])` adds the gradient of the mean of the B
    losses to each parameter's `.grad`."""
    device_type: str = "cpu"

    @property
    def device(self) -> torch.device:
        return torch.device(self.device_type)

    @property
    def parallel(self) -> bool:
        """Whether the examples of a batch are computed at once."""
        return self is not SEQUENTIAL

    def unavailable(self) -> str | None:
        """Why this machine cannot run the backend, or None when it can."""
        if self.device_type == "cuda" and not torch.cuda.is_available():
            return "no CUDA device on this machine"
        return None

    def synchronise(self) -> None:
        """Wait until everything that was asked of the device is done."""
        if self.device_type == "cuda":
            torch.cuda.synchronize()


def batch_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> None:
    """The whole batch at once: one forward and one backward pass."""
    loss(model(inputs), targets).mean().backward()


def example_by_example_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> None:
    """One example at a time, the lecture's "no parallel": the gradients add up to that of the mean."""
    for i in range(len(inputs)):
        (loss(model(inputs[i : i + 1]), targets[i : i + 1]).sum() / len(inputs)).backward()


SEQUENTIAL = Backend("sequential", "one example at a time, one thread", example_by_example_gradient)
CPU = Backend("cpu", "the whole batch at once, with the fastest number of threads", batch_gradient)
CUDA = Backend("cuda", "the whole batch at once on a GPU", batch_gradient, device_type="cuda")
BACKENDS = {backend.name: backend for backend in (SEQUENTIAL, CPU, CUDA)}
