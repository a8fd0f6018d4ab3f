"""Backends: an update runs one example at a time, or on a whole batch on the CPU or on an accelerator.

Every backend computes the same gradient, that of the mean loss of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from suite import devices
from suite.devices import Device

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Backend:
    """A device with a function that computes the gradient of a batch on it."""

    name: str
    about: str
    gradient: Callable[[nn.Module, PerExampleLoss, Tensor, Tensor], None]
    """`gradient(model, loss, inputs [B, ...], targets [B, ...])` adds the gradient of the mean of the B losses to the
    `.grad` of each parameter."""
    device: Device = devices.CPU

    @property
    def parallel(self) -> bool:
        """Whether the examples of a batch are computed in parallel."""
        return self is not SEQUENTIAL

    def unavailable(self) -> str | None:
        """Return why this machine cannot run the backend, or None when it can."""
        return self.device.unavailable()


def batch_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> None:
    """Compute the gradient of the whole batch in one forward and one backward pass."""
    loss(model(inputs), targets).mean().backward()


def example_by_example_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> None:
    """Compute the gradient one example at a time, the lecture's "no parallel", and add up the shares of the mean."""
    for i in range(len(inputs)):
        (loss(model(inputs[i : i + 1]), targets[i : i + 1]).sum() / len(inputs)).backward()


def whole_batch(device: Device) -> Backend:
    """Return the backend that computes whole batches on an accelerator."""
    return Backend(device.type, f"the whole batch at once on {device.about}", batch_gradient, device)


SEQUENTIAL = Backend("sequential", "one example at a time, one thread", example_by_example_gradient)
CPU = Backend("cpu", "the whole batch at once, with the fastest number of threads", batch_gradient)
ACCELERATORS = tuple(whole_batch(device) for device in devices.DEVICES if device.is_accelerator)
BACKENDS = {backend.name: backend for backend in (SEQUENTIAL, CPU, *ACCELERATORS)}


def fastest() -> Backend:
    """Return the backend on which training runs when the user names none."""
    return on(devices.fastest())


def on(device: Device) -> Backend:
    """Return the backend that computes whole batches on `device`."""
    return BACKENDS[device.type]


def training_backend(names: Sequence[str]) -> Backend:
    """Return the backend for trainings, out of those called `names` that compute whole batches.

    An available backend comes before an unavailable one, and an accelerator before the CPU. Where no name is that of
    such a backend, the result is the CPU.
    """
    parallel = [BACKENDS[name] for name in names if BACKENDS[name].parallel]
    available = [backend for backend in parallel if backend.unavailable() is None]
    return max(available or parallel, key=lambda backend: backend.device.is_accelerator, default=CPU)
