"""Amounts of memory as text."""


def with_unit(size: float) -> str:
    """A number of bytes.

    >>> with_unit(1_300_000)
    '1.24 MiB'
    """
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"
