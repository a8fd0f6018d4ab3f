"""How much memory an update takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suite.advise.timing import Updates


def peak_bytes(updates: Updates) -> int:
    """Return the most bytes that parameters, gradients and all else that an update makes take at once."""
    parameters = sum(parameter.nbytes for parameter in updates.model.parameters())
    return parameters + updates.backend.device.peak_bytes(lambda: updates.updates(1))


def in_words(size: float) -> str:
    """A number of bytes, for example `1.2 MiB`."""
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"
