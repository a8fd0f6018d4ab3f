"""Mean gradient and covariance of the per-example gradients, exactly, in one pass over the examples.

Layers with a formula (`layer_gradients`) need no gradient of their parameters from autograd at all: the pass back
goes through what they return, and their own gradients follow from it. All other parameters go through
`torch.func.vmap(grad)`, or one example after another where vmap cannot. Which is which is found out by trying: a
formula counts only where it gives what autograd gives on a few examples, so that a weight used twice, or in another
way than its layer's, is never mistaken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from suite import devices
from suite.backends import PerExampleLoss
from suite.instruments.layer_gradients import FORMULAS, of_each, own_parameters
from suite.training.ensemble import layers_that_vmap_knows
from suite.training.evaluate import evaluating

TRIED = 3
"""Examples on which every formula is tried."""
CHUNK_VALUES = 2**22
"""Values that a chunk of the pass holds: its inputs, and what every module returns."""
PER_EXAMPLE_VALUES = 2**26
"""Values of per-example gradients held at once."""


@dataclass(frozen=True)
class GradientStatistics:
    """Of the gradients g_i of N examples: by parameter's name, their mean G, in the device's widest float,
    and the trace of their covariance, S2 = sum_i |g_i - G|^2 / (N - 1), in the squared unit of the gradient."""

    examples: int
    mean: dict[str, Tensor]
    variances: dict[str, float]

    @property
    def variance(self) -> float:
        """S2 over all parameters, tr(Sigma)."""
        return sum(self.variances.values())

    @property
    def squared_norm(self) -> float:
        """|G|^2 over all parameters."""
        return sum(mean.square().sum().item() for mean in self.mean.values())

    @property
    def noise_scale(self) -> float:
        """tr(Sigma) / |G|^2, in examples (McCandlish 2018)."""
        return self.variance / self.squared_norm


def gradient_statistics(
    model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> GradientStatistics:
    """The statistics over all of `inputs` [N, ...], N >= 2, at the model's parameters, in evaluation mode."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with evaluating(model):
        few = torch.linspace(0, len(inputs) - 1, TRIED).long()
        layers = trusted_layers(model, loss, inputs[few], targets[few])
        by_formula = None
        while by_formula is None:
            try:
                by_formula = formula_sums(model, layers, loss, inputs, targets)
            except FormulaFailed as failed:
                del layers[failed.layer]
        rest = {name: value for name, value in trained.items() if name not in by_formula}
        sums = by_formula | (general_sums(model, rest, loss, inputs, targets) if rest else {})
    count = len(inputs)
    mean = {name: sums[name][1] / count for name in trained}
    squares = {name: sums[name][0].item() - count * mean[name].square().sum().item() for name in trained}
    return GradientStatistics(count, mean, {name: max(0.0, value) / (count - 1) for name, value in squares.items()})


Sums = dict[str, tuple[Tensor, Tensor]]
"""By parameter's name: sum of the squared norms of the gradients [], and sum of the gradients, both in the device's
widest float."""


def formula_sums(
    model: nn.Module, layers: dict[str, nn.Module], loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> Sums:
    """The sums of the parameters of `layers`, all of which have a formula."""
    totals: Sums = {}
    if not layers:
        return totals
    chunk = examples_at_once(model, layers, inputs[:1])
    with listening(model, layers, totals) as called:
        for some_inputs, some_targets in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            called.clear()
            loss(model(some_inputs), some_targets).sum().backward()
    return totals


def examples_at_once(model: nn.Module, layers: dict[str, nn.Module], example: Tensor) -> int:
    """How many examples like `example` [1, ...] go through `model` and the formulas of `layers` together."""
    convolutions = [layer.weight.numel() for layer in layers.values() if isinstance(layer, nn.modules.conv._ConvNd)]
    chunk = CHUNK_VALUES // values_of_an_example(model, example)
    return max(1, min(chunk, PER_EXAMPLE_VALUES // max([1, *convolutions])))


@torch.no_grad()
def values_of_an_example(model: nn.Module, example: Tensor) -> int:
    """How many values a pass forward of `example` [1, ...] makes, its inputs included."""
    counts = [example.numel()]

    def count(module, arguments, output):
        if isinstance(output, Tensor):
            counts.append(output.numel())

    handles = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    return sum(counts)


@contextmanager
def listening(model: nn.Module, layers: dict[str, nn.Module], totals: Sums) -> Iterator[set[str]]:
    """Inside, a pass forward and back through `model` adds the gradients of `layers` to `totals`; autograd computes
    none of a parameter. Yields the names of the layers called so far, to be cleared before each pass: one called
    twice raises FormulaFailed."""
    in_place = any(getattr(module, "inplace", False) for module in model.modules())
    parameters = [value for value in model.parameters() if value.requires_grad]
    own = {name: list(own_parameters(layer)) for name, layer in layers.items()}
    called: set[str] = set()

    def add(name: str, layer: nn.Module, arguments: tuple, d: Tensor) -> None:
        try:
            gradients = FORMULAS[type(layer)](layer, arguments[0].detach(), d)
            for which in own[name]:
                add_to(totals, f"{name}.{which}".removeprefix("."), gradients[which])
        except Exception as error:
            raise FormulaFailed(name) from error

    def listen(name: str):
        def hook(layer, arguments, output):
            if name in called:
                raise FormulaFailed(name)
            called.add(name)
            if not output.requires_grad:  # nothing before it is trained: the pass back may end here
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


def trusted_layers(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> dict[str, nn.Module]:
    """The layers whose formula gives, on these few examples, what autograd gives one after another."""
    layers = {name: layer for name, layer in model.named_modules() if type(layer) in FORMULAS}
    layers = {name: layer for name, layer in layers.items() if own_parameters(layer)}
    names = {
        name: [f"{name}.{own}".removeprefix(".") for own in own_parameters(layer)] for name, layer in layers.items()
    }
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    expected = one_by_one_sums(model, trained, loss, inputs, targets)
    while layers:
        try:
            found = formula_sums(model, layers, loss, inputs, targets)
        except FormulaFailed as failed:
            del layers[failed.layer]
            continue
        except RuntimeError:  # something between the layers, such as a change in place, does not go with listening
            return {}
        agreeing = {
            name: layer
            for name, layer in layers.items()
            if all(key in found and key in expected and agree(found[key], expected[key]) for key in names[name])
        }
        if len(agreeing) == len(layers):
            return layers
        layers = agreeing
    return {}


def agree(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Equal but for rounding, both the squared norms and the sum of the gradients; where all are zero, nothing is
    known."""
    norms = torch.allclose(one[0], other[0], rtol=1e-3, atol=0) and bool(other[0] > 0)
    return norms and bool((one[1] - other[1]).norm() <= 1e-3 * other[1].norm() + 1e-6 * other[0].sqrt())


def general_sums(
    model: nn.Module, parameters: dict[str, Tensor], loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> Sums:
    """The sums of any `parameters`, from every example's own gradient: many at once, or one after another where vmap
    cannot."""
    try:
        return vectorised_sums(model, parameters, loss, inputs, targets)
    except RuntimeError:
        return one_by_one_sums(model, parameters, loss, inputs, targets)


def vectorised_sums(
    model: nn.Module, parameters: dict[str, Tensor], loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> Sums:
    held = {name: value.detach() for name, value in model.named_parameters()} | dict(model.named_buffers())
    moving = {name: held.pop(name) for name in parameters}

    def example_loss(moving: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(model, (moving, held), (example[None],))
        return loss(outputs, target[None]).squeeze(0)

    gradients_of = vmap(grad(example_loss), in_dims=(None, 0, 0))
    totals: Sums = {}
    chunk = max(1, min(256, PER_EXAMPLE_VALUES // sum(value.numel() for value in moving.values())))
    for some in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        with layers_that_vmap_knows():
            gradients = gradients_of(moving, *some)
        for name, each in gradients.items():
            add_to(totals, name, of_each(each))
    return totals


def one_by_one_sums(
    model: nn.Module, parameters: dict[str, Tensor], loss: PerExampleLoss, inputs: Tensor, targets: Tensor
) -> Sums:
    """The slow and obvious way."""
    totals: Sums = {}
    for example, target in zip(inputs.split(1), targets.split(1), strict=True):
        total = loss(model(example), target).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
            gradient = torch.zeros_like(value) if gradient is None else gradient
            add_to(totals, name, of_each(gradient[None]))
    return totals


def add_to(totals: Sums, name: str, some: tuple[Tensor, Tensor]) -> None:
    norms, total = some
    if name in totals:
        totals[name] = (totals[name][0] + norms, totals[name][1].add_(total))
    else:
        totals[name] = (norms, total.to(devices.of(total).widest_float))


class FormulaFailed(Exception):
    """The formula of `layer` raised."""

    def __init__(self, layer: str):
        self.layer = layer
