"""Workloads whose trainings are known in closed form."""

import torch
from torch import Tensor, nn

from suite.workloads import Data, Workload


class Point(nn.Module):
    """A vector of parameters, initially `start`; the model returns `outputs(vector, inputs)`."""

    def __init__(self, start, outputs):
        super().__init__()
        self.vector, self.outputs = nn.Parameter(torch.as_tensor(start, dtype=torch.float32).clone()), outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outputs(self.vector, inputs)


def workload(name: str, inputs: Tensor, start, outputs, **fields) -> Workload:
    """The workload with losses [B] `outputs(vector [P], inputs [B, ...])`, tested on its training examples."""
    targets = torch.zeros(len(inputs))
    defaults = {
        "batch_sizes": (1, 8, 64),
        "small": 1,
        "large": 64,
        "learning_rate": 0.1,
        "learning_rates": (0.1,),
        "epochs": 1,
        "target_loss": 1e-3,
        "max_updates": 1000,
    }
    return Workload(
        name=name,
        about=name,
        load=lambda: Data(inputs, targets, inputs, targets),
        model=lambda: Point(start, outputs),
        loss=lambda outputs, targets: outputs,
        score=lambda outputs, targets: -outputs,
        score_name="minus loss",
        **(defaults | fields),
    )


def quadratic(curvatures: Tensor, **fields) -> Workload:
    """64 equal examples: sum_j h_j x_j^2 / 2, initially at ones, without noise."""
    loss = lambda vector, inputs: (curvatures.to(inputs.device) * vector.square()).sum() / 2 + inputs[:, 0]  # noqa: E731
    return workload("quadratic", torch.zeros(64, 1), torch.ones(len(curvatures)), loss, **fields)


def noisy_quadratic(**fields) -> Workload:
    """64 examples f_i = sum_j h_j (x_j - a_ij)^2 / 2 of 10 parameters, initially 3; a centred, h from 0.01 to 1."""
    generator = torch.Generator().manual_seed(3)
    curvatures = torch.logspace(-2, 0, 10)
    centres = torch.randn(64, 10, generator=generator)
    centres -= centres.mean(dim=0)
    loss = lambda vector, inputs: (curvatures.to(inputs.device) * (vector - inputs).square()).sum(dim=1) / 2  # noqa: E731
    return workload("noisy_quadratic", centres, torch.full((10,), 3.0), loss, **fields)


def saddle(**fields) -> Workload:
    """64 examples (1 - w1 w2)^2 + a_i (w1 + w2), a = -0.5 or 0.5, initially at 0, where the mean gradient is zero."""
    slopes = torch.tensor([-0.5, 0.5]).repeat(32)[:, None]
    loss = lambda vector, inputs: (1 - vector.prod()).square() + inputs[:, 0] * vector.sum()  # noqa: E731
    return workload("noisy_saddle", slopes, torch.zeros(2), loss, **fields)
