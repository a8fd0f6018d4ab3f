"""Rows as they would be stored, made up so that the answer is known."""

import pandas as pd

from suite.evidence import Evidence, Facts
from tests.conftest import blobs, tiny

FACTS = Facts.of(tiny(), blobs())
"""Small 1, Large 16; learning rate 0.1 of 0.03 and 0.1; 3 epochs; target loss 0.5."""


def evidence(*frames: pd.DataFrame) -> Evidence:
    """Of rows that were measured on the CPU where they name no backend."""
    return Evidence.from_frames(FACTS, [frame.assign(backend=frame.get("backend", "cpu")) for frame in frames])


def timings(
    measurement: str,
    backend: str,
    input_pipeline: str,
    times_s: dict[int, list[float]],
    reference_s: dict | None = None,
) -> pd.DataFrame:
    """`times_s`: by batch size, the time of each process; `reference_s`: the same for its reference update."""
    lines = [
        {
            "batch_size": size,
            "process": process,
            "time_s": time_s,
            "reference_s": reference_s[size][process] if reference_s else 1e-4,
            "threads": 1,
            "status": "ok",
        }
        for size, times in times_s.items()
        for process, time_s in enumerate(times)
    ]
    return pd.DataFrame(lines).assign(measurement=measurement, backend=backend, input_pipeline=input_pipeline)


def without_rows(measurement: str, backend: str, status: str, reason: str, batch_sizes=(1, 4, 16)) -> pd.DataFrame:
    lines = [{"batch_size": size, "status": status, "reason": reason} for size in batch_sizes]
    return pd.DataFrame(lines).assign(
        measurement=measurement, backend=backend, input_pipeline="resident", protocol="p"
    )
