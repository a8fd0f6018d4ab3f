"""Random streams, each derived from one base seed by name.

A stream's seed is the SHA-256 of the base seed and the stream's names. It never depends on another
stream's state, so no result depends on the order of work or on how much work ran before.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from suite import devices


def derive(*names: str | int, base_seed: int = 0) -> int:
    """Seed in [0, 2**63) of the stream called `names`, for example `derive("shuffle", replica)`."""
    text = "/".join(str(name) for name in (base_seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int, base_seed: int = 0) -> torch.Generator:
    """A CPU generator at the start of the stream called `names`."""
    return torch.Generator().manual_seed(derive(*names, base_seed=base_seed))


@contextmanager
def torch_seeded(*names: str | int, base_seed: int = 0) -> Iterator[None]:
    """Inside, torch's own generator runs the stream called `names`, for what takes no other: initial
    parameters, dropout. Afterwards it is as it was."""
    with TorchStream(*names, base_seed=base_seed).running():
        yield


class TorchStream:
    """The stream called `names`, for torch's own generators to run now and then."""

    def __init__(self, *names: str | int, base_seed: int = 0):
        self.seed, self.states = derive(*names, base_seed=base_seed), None
        self.devices = devices.in_use()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, torch's own generators go on with this stream; afterwards they are as they were."""
        with devices.random_state_restored():
            if self.states is None:
                for device in self.devices:
                    device.seed(self.seed)
            else:
                for device, state in zip(self.devices, self.states, strict=True):
                    device.set_random_state(state)
            yield
            self.states = [device.random_state() for device in self.devices]
