"""Random streams, each derived from one base seed by name.

A stream's seed is the SHA-256 of the base seed and the stream's names. It never depends on another
stream's state, so no result depends on the order of work or on how much work ran before.
"""

import hashlib

import torch

BASE_SEED = 0


def derive(*names: str | int) -> int:
    """Seed in [0, 2**63) of the stream called `names`, for example `derive("shuffle", replica)`."""
    text = "/".join(str(name) for name in (BASE_SEED, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream called `names`."""
    return torch.Generator().manual_seed(derive(*names))
