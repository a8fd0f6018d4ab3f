"""How many replicas train in one call: a function of the cell alone, so that its rounding is too.

Many where an update is small and nearly all overhead; few where arithmetic fills the processor anyway, or where more
would drop out of its cache.
"""

import math

from suite.workloads import Workload

MOST, LEAST = 64, 2
WORK = 2**25
"""Parameters times examples of an update, over all replicas of a call: some milliseconds on one core."""
PARAMETERS = 2**22
"""Parameters over all replicas of a call: 16 MiB in float32, what a shared cache holds."""


def parameter_count(workload: Workload) -> int:
    return sum(parameter.numel() for parameter in workload.initial_model(0).parameters())


def replicas_per_call(replicas: int, parameters: int, batch_size: int) -> int:
    """How many of `replicas` of a model with so many parameters are trained by one call: as equal parts of all as
    can be. At least two: a pack of one would round differently (a matrix times a vector)."""
    most = min(MOST, WORK // (parameters * batch_size), PARAMETERS // parameters)
    calls = math.ceil(replicas / max(LEAST, most))
    return max(LEAST, math.ceil(replicas / calls))
