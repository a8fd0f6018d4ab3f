"""How sharp a minimum is: the Hessian's largest eigenvalue and trace, Keskar's sharpness, and a measure that
rescaled layers leave alone.

All of the mean loss over stated examples, in evaluation mode, as a function of every trained parameter.
"""

import math

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from suite import devices, seeds
from suite.backends import BACKENDS, PerExampleLoss
from suite.cells import Cell, Measurement
from suite.statistics import Interval, mean_interval
from suite.training.ensemble import layers_that_vmap_knows
from suite.training.evaluate import evaluating
from suite.training.plain import trained
from suite.workloads import Data, Workload

EXAMPLES = 2000
"""How many training examples, the first, the loss surface of a measurement is made of."""
PROBES = 20
"""Random vectors behind the trace of a measurement."""
REACH = 1e-3
"""Keskar's epsilon: how far, relative to |x_i| + 1, a parameter may move."""
RESTARTS = 3
"""Points of the box from which Keskar's maximum is sought."""


class LossSurface:
    """The mean loss over `inputs` [N, ...] and `targets` [N, ...] as a function of a vector [P] of parameters, around
    `here`, those of `model`; computed in `dtype`, without one in the device's widest float."""

    def __init__(
        self,
        model: nn.Module,
        loss: PerExampleLoss,
        inputs: Tensor,
        targets: Tensor,
        dtype: torch.dtype | None = None,
    ):
        dtype = dtype or devices.of(inputs).widest_float
        self.model, self.loss = model, loss
        self.inputs, self.targets = (
            tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in (inputs, targets)
        )
        trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        self.shapes = {name: value.shape for name, value in trained.items()}
        self.here = torch.cat([value.flatten() for value in trained.values()]).to(dtype)
        held = {name: value.detach() for name, value in model.named_parameters() if name not in trained}
        self.held = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in (held | dict(model.named_buffers())).items()
        }

    def value(self, point: Tensor) -> Tensor:
        """The mean loss [] at `point` [P]."""
        parts = point.split([math.prod(shape) for shape in self.shapes.values()])
        parameters = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        with evaluating(self.model), layers_that_vmap_knows():
            outputs = functional_call(self.model, (parameters, self.held), (self.inputs,))
        return self.loss(outputs, self.targets).mean()

    def gradient(self, point: Tensor) -> Tensor:
        """[P]."""
        return grad(self.value)(point)

    def curve(self, direction: Tensor) -> Tensor:
        """The Hessian at `here` times `direction` [P]: the gradient's derivative along it (Pearlmutter 1994)."""
        return jvp(grad(self.value), (self.here,), (direction,))[1]


def largest_eigenvalue(surface: LossSurface, scale: Tensor | None = None) -> float:
    """Largest eigenvalue of the Hessian H, or of diag(scale) H diag(scale)."""
    return extreme_eigenvalue(surface, "LA", scale)


def extreme_eigenvalue(surface: LossSurface, which: str, scale: Tensor | None = None) -> float:
    """The largest ("LA") or the smallest ("SA") eigenvalue, by Lanczos' method."""
    scale = torch.ones_like(surface.here) if scale is None else scale
    parameters = len(scale)

    def multiply(vector: np.ndarray) -> np.ndarray:
        direction = torch.as_tensor(vector.ravel(), dtype=scale.dtype).to(scale.device)
        return (scale * surface.curve(scale * direction)).cpu().numpy()

    if parameters < 3:  # Lanczos wants more
        hessian = np.stack([multiply(row) for row in np.eye(parameters)])
        return float(np.linalg.eigvalsh(hessian)[-1 if which == "LA" else 0])
    operator = scipy.sparse.linalg.LinearOperator(
        (parameters, parameters), matvec=multiply, dtype=surface.here.cpu().numpy().dtype
    )
    start = torch.randn(parameters, generator=seeds.generator("lanczos"), dtype=scale.dtype).numpy()
    return float(scipy.sparse.linalg.eigsh(operator, k=1, which=which, v0=start, return_eigenvectors=False)[0])


def invariant_sharpness(surface: LossSurface) -> float:
    """Largest eigenvalue of diag|theta| H diag|theta|: unchanged when one layer is multiplied by a number and the
    next divided by it, which changes every measure of H alone (Dinh et al. 2017)."""
    return largest_eigenvalue(surface, surface.here.abs())


def trace(surface: LossSurface, probes: int, generator: torch.Generator) -> Interval:
    """The Hessian's trace with its interval, from `probes` random vectors of signs v: the mean of v H v (Hutchinson
    1989)."""
    products = []
    for _ in range(probes):
        signs = 2.0 * torch.randint(2, surface.here.shape, generator=generator).to(surface.here) - 1
        products.append(float(signs @ surface.curve(signs)))
    return mean_interval(products)


def keskar_sharpness(surface: LossSurface, generator: torch.Generator) -> float:
    """phi = 100 (max f(x + z) - f(x)) / (1 + f(x)) over |z_i| <= REACH (|x_i| + 1) (Keskar et al. 2017, metric 2.1,
    in the whole space).

    The maximum is sought by ten iterations of L-BFGS-B, as theirs, from RESTARTS random points of the box, each
    also pushed into the corner that the gradient points at: the greatest counts.
    """
    start = surface.here
    sides = REACH * (start.abs() + 1)
    bottom = float(surface.value(start))

    def descend(moved: np.ndarray) -> tuple[float, np.ndarray]:
        point = start + torch.as_tensor(moved, dtype=start.dtype).to(start.device) * sides
        return -float(surface.value(point)), -(surface.gradient(point) * sides).cpu().numpy().astype(float)

    highest = bottom
    for _ in range(RESTARTS):
        first = (2 * torch.rand(len(start), generator=generator, dtype=start.dtype) - 1).numpy().astype(float)
        found = scipy.optimize.minimize(
            descend, first, jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * len(start), options={"maxiter": 10}
        )
        corner = np.where(descend(found.x)[1] < 0, 1.0, -1.0)
        highest = max(highest, -found.fun, -descend(corner)[0])
    return 100 * (highest - bottom) / (1 + bottom)


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica, trained to the protocol's target: `updates`, `train_loss` there, and the measures of the
    loss surface of at most `EXAMPLES` training examples, in float32."""
    backend, rows = BACKENDS[cell.backend], []
    data = data.to(backend.device.torch_device)
    for replica in range(cell.repeats):
        split = workload.replica_data(data, replica)
        model, seen = trained(workload, split, cell.protocol, cell.batch_size, replica, backend)
        last = seen.iloc[-1]
        row = {"seed": replica, **last[["updates", "train_loss", "status"]]}
        if last["status"] == "ok":
            few = (split.train_inputs[:EXAMPLES], split.train_targets[:EXAMPLES])
            surface = LossSurface(model, workload.loss, *few, torch.float32)
            row["largest_eigenvalue"] = largest_eigenvalue(surface)
            row["trace"] = trace(surface, PROBES, workload.generator("hutchinson", replica)).estimate
            row["keskar"] = keskar_sharpness(surface, workload.generator("keskar", replica))
            row["invariant"] = invariant_sharpness(surface)
        rows.append(row)
    return pd.DataFrame(rows)


SHARPNESS = Measurement("sharpness", version=1, measure=measure)
