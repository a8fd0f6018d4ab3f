"""The sharpness of a minimum: the Hessian's extreme eigenvalues and trace, Keskar's sharpness, and a measure that is
invariant under rescaled layers.

All are of the mean loss over given examples, in evaluation mode, as a function of every trained parameter.
"""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from suite import devices, seeds
from suite.backends import PerExampleLoss
from suite.statistics import Interval, mean_interval
from suite.training.ensemble import layers_that_vmap_knows
from suite.training.evaluate import evaluating

KESKAR_EPSILON = 1e-3
"""The distance, relative to |x_i| + 1, that a parameter may move."""
ASYMMETRY = 1e-3
"""H [P, P] counts as symmetric up to this value of |u H v - v H u| sqrt(P) / (|u| |H v| + |v| |H u|), for random
vectors u and v."""
KESKAR_STEPS = 50
"""Limit of the steps from corner to corner of the box; on digits the loss stops rising after at most 20."""


class LossSurface:
    """The mean loss over `inputs` [N, ...] and `targets` [N, ...] as a function of a vector [P] of parameters, around
    the vector `parameters` of those of `model`; computed in `dtype`, by default in the device's widest float."""

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
        self.parameters = torch.cat([value.flatten() for value in trained.values()]).to(dtype)
        frozen = {name: value.detach() for name, value in model.named_parameters() if name not in trained}
        self.fixed = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in (frozen | dict(model.named_buffers())).items()
        }

    def value(self, point: Tensor) -> Tensor:
        """The mean loss [] at `point` [P]."""
        parts = point.split([math.prod(shape) for shape in self.shapes.values()])
        parameters = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        with evaluating(self.model), layers_that_vmap_knows():
            outputs = functional_call(self.model, (parameters, self.fixed), (self.inputs,))
        return self.loss(outputs, self.targets).mean()

    def gradient(self, point: Tensor) -> Tensor:
        """The gradient [P] at `point` [P]."""
        return self._gradient(point, keep=False)[1]

    def _gradient(self, point: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
        """`point` as a variable, and the gradient there; `keep` retains its graph for a second derivative.

        By autograd, since `torch.func.grad` cannot run a forward pass that itself calls autograd.
        """
        variable = point.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.value(variable), variable, create_graph=keep)
        return variable, gradient

    def hvp(self, direction: Tensor) -> Tensor:
        """Hessian-vector product [P]: the Hessian at `parameters` times `direction` [P].

        Raises ValueError where the derivatives of a layer give no symmetric matrix.
        """
        return self._product(direction)

    @cached_property
    def _product(self) -> Callable[[Tensor], Tensor]:
        """The derivative of the gradient along a direction (Pearlmutter 1994).

        In forward mode; in reverse mode, which is slower, where a layer has no forward derivative or one that
        disagrees, as an embedding has for its padding.
        """
        try:
            if self._is_symmetric(self._forward_over_reverse):
                return self._forward_over_reverse
        except RuntimeError:  # a layer without forward mode; where memory ran out, it will again
            pass
        if self._is_symmetric(self._reverse_over_reverse):
            return self._reverse_over_reverse
        raise ValueError(
            "the computed Hessian is not symmetric: a layer's second derivatives are wrong, or rounding dominates"
        )

    def _forward_over_reverse(self, direction: Tensor) -> Tensor:
        return jvp(grad(self.value), (self.parameters,), (direction,))[1]

    def _reverse_over_reverse(self, direction: Tensor) -> Tensor:
        point, gradient = self._gradient(self.parameters, keep=True)
        return torch.autograd.grad(gradient, point, direction)[0]

    def _is_symmetric(self, product: Callable[[Tensor], Tensor]) -> bool:
        """Whether u H v = v H u for two random vectors, within ASYMMETRY."""
        generator, size = seeds.generator("symmetry"), len(self.parameters)
        u, v = (torch.randn(size, generator=generator).to(self.parameters) for _ in range(2))
        of_u, of_v = product(u), product(v)
        difference, scale = (u @ of_v - v @ of_u).abs(), u.norm() * of_v.norm() + v.norm() * of_u.norm()
        underflow = math.sqrt(torch.finfo(u.dtype).tiny)  # below it a norm loses its digits
        return bool(difference * math.sqrt(size) <= ASYMMETRY * scale + underflow)


def largest_eigenvalue(
    surface: LossSurface, scale: Tensor | None = None, generator: torch.Generator | None = None
) -> float:
    """Largest eigenvalue of the Hessian H, or of diag(scale) H diag(scale), with `scale` [P]."""
    return extreme_eigenvalue(surface, "LA", scale, generator)


def extreme_eigenvalue(
    surface: LossSurface, end: str, scale: Tensor | None = None, generator: torch.Generator | None = None
) -> float:
    """The largest (`end` "LA") or the smallest ("SA") eigenvalue of H or of diag(scale) H diag(scale), by Lanczos'
    method from a vector drawn by `generator`, by default always the same."""
    scale = torch.ones_like(surface.parameters) if scale is None else scale
    size = len(scale)

    def matvec(vector: np.ndarray) -> np.ndarray:
        direction = torch.as_tensor(vector.ravel(), dtype=scale.dtype).to(scale.device)
        return (scale * surface.hvp(scale * direction)).cpu().numpy()

    if size < 3:  # Lanczos needs at least three
        hessian = np.stack([matvec(row) for row in np.eye(size)])
        return float(np.linalg.eigvalsh(hessian)[-1 if end == "LA" else 0])
    dtype = surface.parameters.cpu().numpy().dtype
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=matvec, dtype=dtype)
    start = torch.randn(size, generator=generator or seeds.generator("lanczos"), dtype=scale.dtype).numpy()
    if not matvec(start).any():  # as where the loss underflows
        return 0.0
    return float(scipy.sparse.linalg.eigsh(operator, k=1, which=end, v0=start, return_eigenvectors=False)[0])


def invariant_sharpness(surface: LossSurface) -> float:
    """Largest eigenvalue of diag|θ| H diag|θ|: unchanged when a layer is multiplied by a number and the next layer is
    divided by it, which changes every measure of H alone (Dinh et al. 2017)."""
    return largest_eigenvalue(surface, surface.parameters.abs())


def trace(surface: LossSurface, probes: int, generator: torch.Generator) -> Interval:
    """The Hessian's trace with its interval, from `probes` vectors v of random signs: the mean of v H v (Hutchinson
    1989)."""
    products = []
    for _ in range(probes):
        signs = 2.0 * torch.randint(2, surface.parameters.shape, generator=generator).to(surface.parameters) - 1
        products.append(float(signs @ surface.hvp(signs)))
    return mean_interval(products)


def keskar_sharpness(surface: LossSurface) -> float:
    """φ = 100 (max f(x + z) − f(x)) / (1 + f(x)) over |z_i| <= KESKAR_EPSILON (|x_i| + 1), in percent (Keskar et al.
    2017, metric 2.1, in the whole space).

    The maximum is sought by sign ascent: from the corner of the box that the gradient at x points at to the corner
    that the gradient there points at, and so on while the loss rises. A convex loss is greatest at a corner, and no
    step lowers it. Ten iterations of L-BFGS-B, the paper's method, end lower: on digits at 0.175% instead of 0.279%,
    the means of five solutions of batch size 1,024.

    NaN where f(x) is negative: φ is made for losses that are not.
    """
    point = centre = surface.parameters
    sides = KESKAR_EPSILON * (centre.abs() + 1)
    highest = bottom = surface.value(centre).item()
    for _ in range(KESKAR_STEPS):
        point = centre + torch.where(surface.gradient(point) < 0, -sides, sides)
        value = surface.value(point).item()
        if not value > highest:
            break
        highest = value
    return 100 * (highest - bottom) / (1 + bottom) if bottom >= 0 else math.nan
