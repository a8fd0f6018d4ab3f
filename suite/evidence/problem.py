"""Why a measurement, or some replicas of it, has no value."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from suite.status import Status


@dataclass(frozen=True)
class Problem:
    """A measurement without a value, or replicas of a training without one."""

    status: Status
    reason: str = ""
    """As stored with a cell that could not be measured."""
    replicas: int = 0
    """Replicas that ended with `status`; 0 where the whole cell has no value."""
    all_replicas: int = 0
    where: str = ""
    """Of which training, for example `at batch size 1,024`."""

    def __str__(self) -> str:
        """For example `3 of 30 seeds at batch size 1,024: diverged`."""
        where = f" {self.where}" if self.where else ""
        if self.replicas:
            return f"{self.replicas} of {self.all_replicas} seeds{where}: {self.status.text}"
        return self.reason or f"{self.status.text}{where}"


def why_none(rows: pd.DataFrame) -> Problem:
    """Why none of `rows` can be used."""
    failed = rows[rows["status"] != Status.OK]
    if failed.empty:
        return Problem(Status.UNAVAILABLE, "not measured")
    reasons = failed["reason"].dropna() if "reason" in failed else pd.Series(dtype=str)
    return Problem(Status(failed["status"].iloc[0]), reasons.iloc[0] if len(reasons) else "")
