"""The number of replicas that train in one call.

It depends on the cell alone, so that the rounding of a training does too. It is large where an update is small and
nearly all overhead, and small where the arithmetic of one replica fills the processor or its cache.
"""

import math

from suite.workloads import Workload

MIN_REPLICAS, MAX_REPLICAS = 2, 64
MAX_WORK = 2**25
"""Limit of parameters times examples of an update, over all replicas of a call: some milliseconds on one core."""
MAX_PARAMETERS = 2**22
"""Limit of parameters over all replicas of a call: 16 MiB in float32, the size of a shared cache."""


def parameter_count(workload: Workload) -> int:
    """Number of parameters of the workload's model."""
    return sum(parameter.numel() for parameter in workload.initial_model(0).parameters())


def replicas_per_call(replicas: int, parameters: int, batch_size: int) -> int:
    """Number of `replicas` to train in one call, for a model with this number of `parameters`.

    The calls are as equal as possible, and have at least two replicas: a call with one replica would round
    differently (a matrix times a vector).

    >>> [replicas_per_call(100, parameters=4810, batch_size=batch_size) for batch_size in (32, 1024)]
    [50, 6]
    """
    limit = min(MAX_REPLICAS, MAX_WORK // (parameters * batch_size), MAX_PARAMETERS // parameters)
    calls = math.ceil(replicas / max(MIN_REPLICAS, limit))
    return max(MIN_REPLICAS, math.ceil(replicas / calls))
