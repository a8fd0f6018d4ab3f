"""How much memory an update takes, and how much there is."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from suite.backends import Backend

if TYPE_CHECKING:
    from suite.advise.timing import Updates


class Held(TorchDispatchMode):
    """Inside, counts the bytes of the tensors that are made: of those that live `now`, and the `peak`. What an
    operation takes for itself and gives back before it ends is not seen."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.known.update(_storages((arguments, keywords)))
        made = function(*arguments, **(keywords or {}))
        for storage in _storages(made):
            if storage not in self.known:
                self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        self.known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, storage.nbytes())

    def _let_go(self, size: int) -> None:
        self.now -= size


def _storages(values) -> list[torch.UntypedStorage]:
    """Where the tensors among nested `values` lie."""
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def peak_bytes(updates: Updates) -> int:
    """The most that parameters, gradients and whatever else an update makes take at once, the data set not counted:
    on a GPU as its allocator counts it, on a CPU as `Held` does."""
    parameters = sum(parameter.nbytes for parameter in updates.model.parameters())
    if updates.backend.device_type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        updates.updates(1)
        return parameters + torch.cuda.max_memory_allocated() - before
    with Held() as held:
        updates.updates(1)
    return parameters + held.peak


def free_bytes(backend: Backend) -> int:
    """Memory of the backend's device that is free for more."""
    if backend.device_type == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return psutil.virtual_memory().available


def in_words(size: float) -> str:
    """A number of bytes, for example `1.2 MiB`."""
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"
