"""Mean gradient and covariance of the per-example gradients, exactly, in one pass over the examples.

Layers with a formula (`layer_gradients`) need no gradient of their parameters from autograd: the backward pass goes
through their outputs, and their own gradients follow from it. All remaining parameters go through
`torch.func.vmap(grad)`, or one example after another where vmap cannot. A formula is used only where it agrees with
autograd on a few examples, so that a layer whose weight is used twice, or outside the layer, does not go through it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from suite import devices
from suite.backends import PerExampleLoss
from suite.instruments.layer_gradients import (
    FORMULAS,
    WINDOW_VALUES,
    Gradient,
    direct_parameters,
    layer_gradients,
    sums_of,
)
from suite.training.ensemble import layers_that_vmap_knows
from suite.training.evaluate import evaluating
from suite.workloads.chunks import hookable_modules

TRIAL_EXAMPLES = 3
"""Examples on which every formula is compared with autograd."""


@dataclass(frozen=True)
class Limits:
    """How many values the pass holds at once; none of them changes a result but by rounding."""

    chunk_values: int = 2**22
    """Of a chunk of examples: their inputs, and the outputs of every module."""
    per_example_values: int = 2**26
    """Of per-example gradients."""
    window_values: int = WINDOW_VALUES
    """Of the windows of a convolution."""


@dataclass(frozen=True)
class GradientStatistics:
    """Statistics of the gradients g_i of N examples, by the parameter's name: their mean G, in the device's widest
    float, and the trace of their covariance, S² = Σ_i |g_i − G|² / (N − 1), in the squared unit of the gradient.

    >>> GradientStatistics(4, {"weight": torch.tensor([3.0, 4.0])}, {"weight": 50.0}).noise_scale
    2.0
    """

    examples: int
    mean: dict[str, Tensor]
    variances: dict[str, float]

    @property
    def variance(self) -> float:
        """S² over all parameters, tr(Σ)."""
        return sum(self.variances.values())

    @property
    def squared_norm(self) -> float:
        """|G|² over all parameters."""
        return sum(mean.square().sum().item() for mean in self.mean.values())

    @property
    def noise_scale(self) -> float:
        """tr(Σ) / |G|², in examples (McCandlish 2018)."""
        return self.variance / self.squared_norm


def gradient_statistics(
    model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor, limits: Limits | None = None
) -> GradientStatistics:
    """The statistics over all of `inputs` [N, ...], N >= 2, at the model's parameters, in evaluation mode."""
    limits = limits or Limits()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with evaluating(model):
        trial = torch.linspace(0, len(inputs) - 1, TRIAL_EXAMPLES).long()
        layers = trusted_layers(model, loss, inputs[trial], targets[trial], limits)
        by_formula = None
        while by_formula is None:
            try:
                by_formula = formula_sums(model, layers, loss, inputs, targets, limits)
            except FormulaFailed as failed:
                del layers[failed.layer]
        general = {name: value for name, value in trained.items() if name not in by_formula}
        sums = by_formula | (general_sums(model, general, loss, inputs, targets, limits) if general else {})
    count = len(inputs)
    mean = {name: sums[name][1] / count for name in trained}
    squares = {name: sums[name][0].item() - count * mean[name].square().sum().item() for name in trained}
    return GradientStatistics(count, mean, {name: max(0.0, value) / (count - 1) for name, value in squares.items()})


Sums = dict[str, Gradient]
"""By the parameter's name: sum of the squared norms of the gradients [], and sum of the gradients, both in the
device's widest float."""


def formula_sums(
    model: nn.Module,
    layers: dict[str, nn.Module],
    loss: PerExampleLoss,
    inputs: Tensor,
    targets: Tensor,
    limits: Limits | None = None,
) -> Sums:
    """The sums of the parameters of `layers`, all of which have a formula."""
    limits, totals = limits or Limits(), {}
    if not layers:
        return totals
    chunk = examples_at_once(model, layers, inputs[:1], limits)
    with recording(model, layers, totals, limits.window_values) as called:
        for chunk_inputs, chunk_targets in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            called.clear()
            loss(model(chunk_inputs), chunk_targets).sum().backward()
    return totals


def examples_at_once(
    model: nn.Module, layers: dict[str, nn.Module], example: Tensor, limits: Limits | None = None
) -> int:
    """How many examples like `example` [1, ...] go through `model` and the formulas of `layers` together."""
    limits = limits or Limits()
    convolutions = [layer.weight.numel() for layer in layers.values() if isinstance(layer, nn.modules.conv._ConvNd)]
    chunk = limits.chunk_values // values_of_an_example(model, example)
    return max(1, min(chunk, limits.per_example_values // max([1, *convolutions])))


@torch.no_grad()
def values_of_an_example(model: nn.Module, example: Tensor) -> int:
    """The number of values in `example` [1, ...] and in the outputs of all layers of its forward pass."""
    counts = [example.numel()]

    def count(module, arguments, output):
        if isinstance(output, Tensor):
            counts.append(output.numel())

    leaves = [module for module in hookable_modules(model) if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        outputs = model(example)
        if not leaves:
            count(model, (), outputs)
    finally:
        for handle in handles:
            handle.remove()
    return sum(counts)


@contextmanager
def recording(model: nn.Module, layers: dict[str, nn.Module], totals: Sums, window_values: int) -> Iterator[set[str]]:
    """Inside, a forward and backward pass through `model` adds the gradients of `layers` to `totals`; autograd
    computes no gradient of a parameter. Yields the names of the layers called so far, to be cleared before each pass:
    a layer that is called twice raises FormulaFailed."""
    in_place = any(getattr(module, "inplace", False) for module in model.modules())
    parameters = [value for value in model.parameters() if value.requires_grad]
    parameter_names = {name: list(direct_parameters(layer)) for name, layer in layers.items()}
    called: set[str] = set()

    def add(name: str, layer: nn.Module, arguments: tuple, d: Tensor) -> None:
        try:
            gradients = layer_gradients(layer, arguments[0].detach(), d, window_values)
            for parameter_name in parameter_names[name]:
                add_to(totals, full_name(name, parameter_name), gradients[parameter_name])
        except Exception as error:
            raise FormulaFailed(name) from error

    def listen(name: str):
        def hook(layer, arguments, output):
            if name in called:
                raise FormulaFailed(name)
            called.add(name)
            if not output.requires_grad:  # no trained parameter before this layer: the backward pass may end here
                output = output.detach().requires_grad_()
                output.register_hook(lambda d: add(name, layer, arguments, d))
                return output.clone() if in_place else output
            output.register_hook(lambda d: add(name, layer, arguments, d))
            return output

        return hook

    handles = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()
        for parameter in parameters:
            parameter.requires_grad_(True)


def full_name(layer: str, parameter: str) -> str:
    """The parameter's name in the model; the model itself is the layer "".

    >>> full_name("head", "weight"), full_name("", "weight")
    ('head.weight', 'weight')
    """
    return f"{layer}.{parameter}".removeprefix(".")


def trusted_layers(
    model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor, limits: Limits | None = None
) -> dict[str, nn.Module]:
    """The layers whose formula agrees, on these few examples, with autograd one example after another."""
    layers = {name: layer for name, layer in model.named_modules() if type(layer) in FORMULAS}
    layers = {name: layer for name, layer in layers.items() if direct_parameters(layer)}
    names = {name: [full_name(name, key) for key in direct_parameters(layer)] for name, layer in layers.items()}
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    expected = one_by_one_sums(model, trained, loss, inputs, targets)
    while layers:
        try:
            sums = formula_sums(model, layers, loss, inputs, targets, limits)
        except FormulaFailed as failed:
            del layers[failed.layer]
            continue
        except RuntimeError:  # something between the layers, such as an operation in place, breaks the hooks
            return {}
        agreeing = {
            name: layer
            for name, layer in layers.items()
            if all(key in sums and key in expected and agree(sums[key], expected[key]) for key in names[name])
        }
        if len(agreeing) == len(layers):
            return layers
        layers = agreeing
    return {}


def agree(gradient: Gradient, expected: Gradient) -> bool:
    """Whether the sums of squared norms and the sums of gradients are both equal to within rounding; False where all
    gradients are zero, which proves nothing."""
    (norms, total), (expected_norms, expected_total) = gradient, expected
    norms_agree = torch.allclose(norms, expected_norms, rtol=1e-3, atol=0) and bool(expected_norms > 0)
    tolerance = 1e-3 * expected_total.norm() + 1e-6 * expected_norms.sqrt()
    return norms_agree and bool((total - expected_total).norm() <= tolerance)


def general_sums(
    model: nn.Module,
    parameters: dict[str, Tensor],
    loss: PerExampleLoss,
    inputs: Tensor,
    targets: Tensor,
    limits: Limits | None = None,
) -> Sums:
    """The sums of any `parameters`, from every example's own gradient: many at once, or one after another where vmap
    cannot."""
    try:
        return vectorised_sums(model, parameters, loss, inputs, targets, limits)
    except RuntimeError:
        return one_by_one_sums(model, parameters, loss, inputs, targets)


def vectorised_sums(
    model: nn.Module,
    parameters: dict[str, Tensor],
    loss: PerExampleLoss,
    inputs: Tensor,
    targets: Tensor,
    limits: Limits | None = None,
) -> Sums:
    """The sums of any `parameters`, by `torch.func.vmap(grad)`."""
    limits = limits or Limits()
    fixed = {name: value.detach() for name, value in model.named_parameters()} | dict(model.named_buffers())
    varied = {name: fixed.pop(name) for name in parameters}

    def example_loss(varied: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(model, (varied, fixed), (example[None],))
        return loss(outputs, target[None]).squeeze(0)

    gradients_of = vmap(grad(example_loss), in_dims=(None, 0, 0))
    totals: Sums = {}
    chunk = max(1, min(256, limits.per_example_values // sum(value.numel() for value in varied.values())))
    for examples in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        with layers_that_vmap_knows():
            gradients = gradients_of(varied, *examples)
        for name, of_parameter in gradients.items():
            add_to(totals, name, sums_of(of_parameter))
    return totals


def one_by_one_sums(
    model: nn.Module, parameters: dict[str, Tensor], loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> Sums:
    """The sums of any `parameters`, by autograd, one example after another: the reference implementation."""
    totals: Sums = {}
    for example, target in zip(inputs.split(1), targets.split(1), strict=True):
        total = loss(model(example), target).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
            gradient = torch.zeros_like(value) if gradient is None else gradient
            add_to(totals, name, sums_of(gradient[None]))
    return totals


def add_to(totals: Sums, name: str, gradient: Gradient) -> None:
    """Add the sums of a chunk to those of the parameter `name`."""
    norms, total = gradient
    if name in totals:
        totals[name] = (totals[name][0] + norms, totals[name][1].add_(total))
    else:
        totals[name] = (norms, total.to(devices.of(total).widest_float))


class FormulaFailed(Exception):
    """The formula of `layer` raised."""

    def __init__(self, layer: str):
        self.layer = layer
