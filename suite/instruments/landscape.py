"""The loss of a model with two parameters as a surface."""

import copy

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import PerExampleLoss

GRID = 61
"""Values of each parameter."""


@torch.no_grad()
def loss_surface(
    model: nn.Module,
    loss: PerExampleLoss,
    inputs: Tensor,
    targets: Tensor,
    bounds: tuple[tuple[float, float], tuple[float, float]],
    grid: int = GRID,
) -> pd.DataFrame:
    """Mean loss over `inputs` [N, ...] and `targets` [N, ...] at `grid` times `grid` values of the two parameters of
    `model` between their `bounds`: a row per grid point, columns `first`, `second` and `train_loss`."""
    model, rows = copy.deepcopy(model).eval(), []
    for first in torch.linspace(*bounds[0], grid).tolist():
        for second in torch.linspace(*bounds[1], grid).tolist():
            point = torch.tensor([first, second], device=inputs.device)
            nn.utils.vector_to_parameters(point, model.parameters())
            rows.append((first, second, loss(model(inputs), targets).sum().item() / len(inputs)))
    return pd.DataFrame(rows, columns=["first", "second", "train_loss"])
