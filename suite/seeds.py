"""Random streams, each derived from one base seed by name.

A stream's seed is the SHA-256 of the base seed and the stream's names. It never depends on another
stream's state, so no result depends on the order of work or on how much work ran before.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BASE_SEED = 0


def derive(*names: str | int) -> int:
    """Seed in [0, 2**63) of the stream called `names`, for example `derive("shuffle", replica)`."""
    text = "/".join(str(name) for name in (BASE_SEED, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream called `names`."""
    return torch.Generator().manual_seed(derive(*names))


@contextmanager
def torch_seeded(*names: str | int) -> Iterator[None]:
    """Inside, torch's own generator runs the stream called `names`, for what takes no other: initial
    parameters, dropout. Afterwards it is as it was."""
    with TorchStream(*names).running():
        yield


class TorchStream:
    """The stream called `names`, for torch's own generators to run now and then."""

    def __init__(self, *names: str | int):
        self.seed, self.states = derive(*names), None
        self.devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, torch's own generators go on with this stream; afterwards they are as they were."""
        with torch.random.fork_rng(devices=self.devices):
            if self.states is None:
                self._seed()
            else:
                torch.set_rng_state(self.states[0])
                for device, state in zip(self.devices, self.states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self.states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self.devices)]

    def _seed(self) -> None:
        """As torch.manual_seed does, which also formats the whole stack, in a millisecond, for a device that may
        never be used."""
        torch.default_generator.manual_seed(self.seed)
        for device in self.devices:
            torch.cuda.default_generators[device].manual_seed(self.seed)
