"""The types of a workload's fields: numbers and sequences of any library, and text that fits files and figures."""

import re
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NOT_IN_LABELS = "$|`\\"
"""Characters that mean something else in a figure or a table."""


def plain(value: Any) -> Any:
    """Numbers and sequences of any library, such as NumPy's and torch's, as Python's; anything else unchanged.

    >>> import numpy as np
    >>> plain(2 ** np.arange(3)), plain([np.float64(0.5), 1]), plain(range(2))
    ((1, 2, 4), (0.5, 1), (0, 1))
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return tuple(map(plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("use 1 to 64 letters, digits, '-', '_' and '.', the first a letter or a digit")
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _label(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text) <= 60 or set(text) & set(NOT_IN_LABELS):
        raise ValueError(f"use 1 to 60 printable characters, and none of {' '.join(NOT_IN_LABELS)}")
    return text


Plain = BeforeValidator(plain)
Count = Annotated[int, Plain, Field(strict=True, ge=1)]
Whole = Annotated[int, Plain, Field(strict=True)]
Positive = Annotated[float, Plain, Field(strict=True, gt=0, allow_inf_nan=False)]
Switch = Annotated[bool, Plain, Field(strict=True)]
Counts = Annotated[tuple[Count, ...], Plain]
Rates = Annotated[tuple[Positive, ...], Plain, Field(min_length=1)]
Name = Annotated[str, Field(strict=True), AfterValidator(_name)]
Sentence = Annotated[str, Field(strict=True), AfterValidator(_one_line)]
Label = Annotated[str, Field(strict=True), AfterValidator(_one_line), AfterValidator(_label)]
