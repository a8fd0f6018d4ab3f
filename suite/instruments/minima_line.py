"""The loss along the straight line through two solutions: the lecture's picture of a flat and a sharp minimum."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from suite import devices

PLACES = np.linspace(-1, 2, 25)
"""Positions on the line: 0 at the first solution, 1 at the second (Goodfellow et al. 2015; Keskar et al. 2017)."""
STATISTICS_EXAMPLES, STATISTICS_BATCH = 10_000, 500
"""Batch norm's statistics are recomputed from this many training examples, in batches of at most this size."""


def losses_along_line(
    first: nn.Module,
    second: nn.Module,
    evaluate: Callable[[nn.Module], dict[str, float]],
    train_inputs: Tensor,
) -> pd.DataFrame:
    """Evaluate (1 − a) `first` + a `second` at every position a of PLACES, and return a row for each: `place`, and
    the columns that `evaluate` returns for the model there.

    Batch norm's statistics are recomputed at each position from the first of `train_inputs` [N, ...]; all remaining
    buffers are those of `first`.
    """
    start, end = (nn.utils.parameters_to_vector(model.parameters()).detach() for model in (first, second))
    model, rows = copy.deepcopy(first), []
    for place in PLACES.tolist():
        nn.utils.vector_to_parameters(torch.lerp(start, end, place), model.parameters())
        recompute_statistics(model, train_inputs)
        rows.append({"place": place, **evaluate(model)})
    return pd.DataFrame(rows)


def recompute_statistics(model: nn.Module, inputs: Tensor) -> None:
    """Set the running statistics of every batch norm to those of the first STATISTICS_EXAMPLES of `inputs`, in
    training mode (Izmailov et al. 2018): batches of equal size, all with the same weight. torch's generators are left
    as they were, so that dropout draws the same at every call."""
    selected = inputs[:STATISTICS_EXAMPLES]
    with devices.random_state_restored():
        update_bn(selected.tensor_split(math.ceil(len(selected) / STATISTICS_BATCH)), model)
