"""Measure properties of a model from its loss, inputs and targets, without training it.

- `gradient_statistics`, `batch_gradient`, `sampled_noise`, `theoretical_noise`: the mean gradient, and the noise of
  batch gradients about it; `noise_scale_from_two_batch_sizes`, `effective`, `plain_mean`: the gradient noise scale.
- `LossSurface`, `largest_eigenvalue`, `extreme_eigenvalue`, `trace`, `invariant_sharpness`, `keskar_sharpness`: the
  Hessian, and measures of sharpness.
- `losses_along_line`, `loss_surface`: the loss between two solutions, and over two parameters.
- `weighted_sums`, `fitted_weights`, `growth`: the gradients that make up a movement, and the growth of heavy ball.
- `updates_to_leave`, `mean_escape_time`: how long it takes to leave a saddle, and a local minimum.
"""

from suite.instruments.escape import mean_escape_time
from suite.instruments.gradient_noise import (
    batch_gradient,
    noise_scale_from_two_batch_sizes,
    sampled_noise,
    theoretical_noise,
)
from suite.instruments.gradient_pass import GradientStatistics, gradient_statistics
from suite.instruments.landscape import loss_surface
from suite.instruments.minima_line import losses_along_line
from suite.instruments.momentum import fitted_weights, growth, weighted_sums
from suite.instruments.noise_scale import Effective, effective, plain_mean
from suite.instruments.saddle import updates_to_leave
from suite.instruments.sharpness import (
    LossSurface,
    extreme_eigenvalue,
    invariant_sharpness,
    keskar_sharpness,
    largest_eigenvalue,
    trace,
)

__all__ = [
    "Effective",
    "GradientStatistics",
    "LossSurface",
    "batch_gradient",
    "effective",
    "extreme_eigenvalue",
    "fitted_weights",
    "gradient_statistics",
    "growth",
    "invariant_sharpness",
    "keskar_sharpness",
    "largest_eigenvalue",
    "loss_surface",
    "losses_along_line",
    "mean_escape_time",
    "noise_scale_from_two_batch_sizes",
    "plain_mean",
    "sampled_noise",
    "theoretical_noise",
    "trace",
    "updates_to_leave",
    "weighted_sums",
]
