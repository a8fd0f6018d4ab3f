"""Random streams, each derived from one base seed by name.

A stream's seed is the SHA-256 of the base seed and the stream's names. It never depends on the state of another
stream, so no result depends on the order of the work or on what ran before.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from suite import devices
from suite.devices import Device


def derive(*names: str | int, base_seed: int = 0) -> int:
    """Seed in [0, 2**63) of the stream called `names`.

    >>> derive("shuffle", 8, 3) == derive("shuffle", 8, 3, base_seed=0) != derive("shuffle", 8, 4)
    True
    """
    text = "/".join(str(name) for name in (base_seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int, base_seed: int = 0) -> torch.Generator:
    """A CPU generator at the start of the stream called `names`."""
    return torch.Generator().manual_seed(derive(*names, base_seed=base_seed))


@contextmanager
def torch_seeded(*names: str | int, base_seed: int = 0) -> Iterator[None]:
    """Inside, torch's global generators draw from the stream called `names`: initial parameters and dropout accept no
    other generator. Their previous states are restored afterwards."""
    with TorchStream(*names, base_seed=base_seed).running():
        yield


class TorchStream:
    """The stream called `names`, drawn from torch's global generators in several parts."""

    def __init__(self, *names: str | int, base_seed: int = 0, among: Sequence[Device] = devices.DEVICES):
        """Runs on those devices `among` the given ones that are in use."""
        self.seed, self.states = derive(*names, base_seed=base_seed), None
        self.among, self.devices = among, devices.in_use(among)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, torch's global generators continue this stream. Their previous states are restored afterwards."""
        with devices.random_state_restored(self.among):
            if self.states is None:
                for device in self.devices:
                    device.seed(self.seed)
            else:
                for device, state in zip(self.devices, self.states, strict=True):
                    device.set_random_state(state)
            yield
            self.states = [device.random_state() for device in self.devices]
