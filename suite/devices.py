"""Devices that updates run on: the CPU, and every accelerator that torch knows.

The only file that names a vendor. A further device is a further entry of `DEVICES`.
"""

from __future__ import annotations

import platform
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import psutil
import torch
from asv.util import get_cpu_info
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from suite.errors import message


@dataclass(frozen=True)
class Device:
    """The CPU, and the interface of every device."""

    type: str
    """torch's name of the device type."""
    about: str
    widest_float: torch.dtype = torch.float64
    """The dtype of sums."""
    is_accelerator: ClassVar[bool] = False

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.type)

    @property
    def captures(self) -> bool:
        """Whether the device can capture its work as a graph and replay it."""
        return False

    def unavailable(self) -> str | None:
        """Return why this machine cannot use the device, or None when it can."""
        return None

    def in_use(self) -> bool:
        """Return whether this process may have drawn random numbers on the device."""
        return True

    def name(self) -> str:
        """Return the model of the processor or GPU, or "none" where there is none."""
        return get_cpu_info() or platform.processor() or platform.machine()

    def synchronize(self) -> None:
        """Wait until all work that was queued on the device is done."""

    def free_bytes(self) -> int:
        """Return the bytes of memory that are free for more tensors."""
        return psutil.virtual_memory().available

    def peak_bytes(self, function: Callable[[], object]) -> int:
        """Call `function`, and return the peak of the bytes that its tensors hold, on top of those held before."""
        with AllocationCounter() as counter:
            function()
        return counter.peak

    def random_state(self) -> list[Tensor]:
        """Return the states of torch's global generators on the device."""
        return [torch.get_rng_state()]

    def set_random_state(self, states: list[Tensor]) -> None:
        """Set the states of torch's global generators on the device."""
        torch.set_rng_state(states[0])

    def seed(self, seed: int) -> None:
        """Seed torch's global generators on the device. (torch.manual_seed seeds every device, and formats the stack
        for each device that is not in use yet, which takes a millisecond.)"""
        torch.default_generator.manual_seed(seed)


@dataclass(frozen=True)
class Accelerator(Device):
    """A device with its own module in torch, such as a GPU."""

    driver_tool: str | None = None
    """A program that is installed with the driver: a machine without it has no such device."""
    graph: str | None = None
    """The class of graphs in the device's module; None where they are not supported or not tested."""
    counts_memory: bool = True
    """Whether torch's allocator counts the bytes that it allocates on the device."""
    is_accelerator: ClassVar[bool] = True

    @property
    def _module(self):
        return torch.get_device_module(self.type)

    @property
    def captures(self) -> bool:
        return self.graph is not None

    def unavailable(self) -> str | None:
        built_for = torch.accelerator.current_accelerator()
        built = built_for is not None and built_for.type == self.type
        if built and torch.accelerator.is_available():
            return None
        if built or (self.driver_tool and not shutil.which(self.driver_tool)):
            return f"no {self.type.upper()} device on this machine"
        return f"this build of torch has no {self.type.upper()} support"

    def in_use(self) -> bool:
        module = getattr(torch, self.type, None)
        return module is not None and getattr(module, "is_initialized", module.is_available)()

    def name(self) -> str:
        if self.unavailable():
            return "none"
        get_name = getattr(self._module, "get_device_name", None)
        return get_name() if get_name else f"{CPU.name()} GPU"

    def synchronize(self) -> None:
        torch.accelerator.synchronize()

    def free_bytes(self) -> int:
        if not self.counts_memory:
            return super().free_bytes()
        free, _ = torch.accelerator.get_memory_info()
        return free + torch.accelerator.memory_reserved() - torch.accelerator.memory_allocated()

    def peak_bytes(self, function: Callable[[], object]) -> int:
        if not self.counts_memory:
            return super().peak_bytes(function)
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        function()
        return torch.accelerator.max_memory_allocated() - before

    def random_state(self) -> list[Tensor]:
        return [self._module.get_rng_state(index) for index in range(self._module.device_count())]

    def set_random_state(self, states: list[Tensor]) -> None:
        for index, state in enumerate(states):
            self._module.set_rng_state(state, index)

    def seed(self, seed: int) -> None:
        getattr(self._module, "manual_seed_all", self._module.manual_seed)(seed)

    def capture(self, function: Callable[[], object]) -> Callable[[], None]:
        """Capture the work of `function` on the device as a graph, and return a function that replays it.

        Before the capture `function` is called three times on a side stream, as torch's notes on CUDA require.
        """
        module = self._module
        side = module.Stream()
        side.wait_stream(module.current_stream())
        with module.stream(side):
            for _ in range(3):
                function()
        module.current_stream().wait_stream(side)
        graph = getattr(module, self.graph)()
        with module.graph(graph):
            function()
        return graph.replay


CPU = Device("cpu", "the processor")
DEVICES = (
    CPU,
    Accelerator("cuda", "an NVIDIA or AMD GPU", driver_tool="nvidia-smi", graph="CUDAGraph"),
    Accelerator("mps", "an Apple GPU", widest_float=torch.float32, counts_memory=False),
    Accelerator("xpu", "an Intel GPU"),
)


def find(type: str) -> Device:
    """Return the device of torch's device type `type`."""
    return next(device for device in DEVICES if device.type == type)


def of(place: Tensor | torch.device | str) -> Device:
    """Return the device of a tensor or of a torch device."""
    return find(place.device.type if isinstance(place, Tensor) else torch.device(place).type)


def fastest(among: Sequence[Device] = DEVICES) -> Device:
    """Return the first available accelerator `among` the devices, or the CPU where there is none."""
    accelerators = (device for device in among if device.is_accelerator)
    return next((device for device in accelerators if device.unavailable() is None), CPU)


def accelerator_name() -> str:
    """Return the model of this machine's accelerator, or "none"."""
    device = fastest()
    return device.name() if device.is_accelerator else "none"


def in_use(among: Sequence[Device] = DEVICES) -> list[Device]:
    """Return the devices on which this process may have drawn random numbers."""
    return [device for device in among if device.in_use()]


@contextmanager
def random_state_restored(among: Sequence[Device] = DEVICES) -> Iterator[None]:
    """Restore the states of torch's global generators on every device in use afterwards."""
    states = [(device, device.random_state()) for device in in_use(among)]
    try:
        yield
    finally:
        for device, state in states:
            device.set_random_state(state)


def launch_method(device: Device | None = None) -> str:
    """Return asv's launch method beside a `device`, by default the fastest: `forkserver`, or `spawn` beside an
    accelerator, which a fork would break, and where the system cannot fork."""
    return "forkserver" if (device or fastest()) is CPU and sys.platform != "win32" else "spawn"


def out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out. On a CPU torch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or says_out_of_memory(message(error))


def says_out_of_memory(text: str) -> bool:
    """Return whether an error printed as `text` says that memory ran out."""
    return any(words in text.lower() for words in ("out of memory", "memoryerror", "can't allocate memory"))


class AllocationCounter(TorchDispatchMode):
    """Inside, count the bytes of new tensors: of those alive `now`, and at the `peak`. Memory that an operation
    allocates and frees internally is not counted."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.known.update(_storages((arguments, keywords)))
        results = function(*arguments, **(keywords or {}))
        for storage in _storages(results):
            if storage not in self.known:
                self._add(storage)
        return results

    def _add(self, storage: torch.UntypedStorage) -> None:
        self.known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._subtract, storage.nbytes())

    def _subtract(self, size: int) -> None:
        self.now -= size


def _storages(values) -> list[torch.UntypedStorage]:
    """Return the storages of the tensors among nested `values`."""
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
