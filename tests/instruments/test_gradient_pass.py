"""The gradient pass against the gradient of every single example, by autograd, one after another."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from suite.instruments import gradient_statistics
from suite.instruments.gradient_pass import Limits, trusted_layers
from suite.workloads.workload import cross_entropy
from tests.workloads.test_kinds import Transformer, counting, token_loss

EXAMPLES = 17


class Twice(nn.Module):
    """One layer used twice, one used in two ways, and one that is used as it should be."""

    def __init__(self):
        super().__init__()
        self.twice, self.tied, self.once = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        hidden = torch.tanh(self.twice(torch.tanh(self.twice(inputs))))
        return self.once(torch.tanh(self.tied(hidden)) @ self.tied.weight)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.GRU(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, inputs):
        return self.head(self.recurrent(inputs.unflatten(1, (3, 2)))[0][:, -1])


class Attention(nn.Module):
    """Three positions of two values; not batch-first: inside, the examples stand in the second dimension."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention, self.head = nn.Linear(2, 4), nn.MultiheadAttention(4, 2), nn.Linear(4, 3)

    def forward(self, inputs):
        positions = self.embed(inputs.unflatten(1, (3, 2)).transpose(0, 1))
        return self.head(self.attention(positions, positions, positions)[0].mean(dim=0))


class Scaled(nn.Module):
    """A parameter of its own between two layers that have a formula."""

    def __init__(self):
        super().__init__()
        self.first, self.scale, self.second = nn.Linear(6, 5), nn.Parameter(torch.rand(5)), nn.Linear(5, 3)

    def forward(self, inputs):
        return self.second(torch.relu(self.first(inputs)) * self.scale)


class Words(nn.Module):
    """Six indices, three of them often the same."""

    def __init__(self, **options):
        super().__init__()
        self.embedding, self.head = nn.Embedding(4, 5, **options), nn.Linear(5, 3)

    def forward(self, inputs):
        return self.head(torch.tanh(self.embedding((inputs.abs() * 3).long() % 4)).sum(dim=1))


class Stubborn(nn.Module):
    """A network that vmap cannot run: it looks at a value. One of its parameters is a scalar."""

    def __init__(self):
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.rand(6)), nn.Linear(6, 3)
        self.shift = nn.Parameter(torch.rand(()))

    def forward(self, inputs):
        return self.layer(inputs * self.scale + self.shift) if inputs.sum().item() > -1e9 else inputs


class OnlySometimesTwice(nn.Module):
    """A layer that is used once or twice: the first and the last example go through it once."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        hidden = self.layer(inputs)
        return self.head(self.layer(hidden) if (inputs.abs().max() > 2).item() else hidden)


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.layer(input=inputs))


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and yet in use
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 4)), nn.Tanh(), nn.Linear(4, 3))


def image(*layers: nn.Module, side: int = 8) -> nn.Module:
    """Six values made an image of two channels, `layers`, and a linear layer."""
    body = nn.Sequential(nn.Linear(6, 2 * side * side), nn.Unflatten(1, (2, side, side)), *layers, nn.Flatten())
    with torch.no_grad():
        outputs = body(torch.zeros(1, 6)).shape[1]
    return nn.Sequential(*body, nn.Linear(outputs, 3))


def sequence(*layers: nn.Module) -> nn.Module:
    """Three positions of two values, `layers` that end in four values at each, and a linear layer."""
    return nn.Sequential(nn.Unflatten(1, (3, 2)), *layers, nn.Flatten(), nn.Linear(12, 3))


def normed() -> nn.Module:
    """Batch norm with statistics and an affine part that are not the initial ones."""
    model = image(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    for tensor in (*model[3].parameters(), model[3].running_mean, model[3].running_var):
        tensor.data += torch.rand_like(tensor)
    return model


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    model[2].requires_grad_(False)
    model[4].bias.requires_grad_(False)
    return model


MODELS = {
    "linear": lambda: nn.Linear(6, 3),
    "ReLU network": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)),
    "in place": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
    "convolution, stride and padding": lambda: image(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU()),
    "convolution, dilation and groups": lambda: image(nn.Conv2d(2, 4, (3, 2), dilation=(2, 1), groups=2), nn.Tanh()),
    "convolution, same and circular": lambda: image(nn.Conv2d(2, 3, (4, 3), padding="same", padding_mode="circular")),
    "convolution, in one dimension": lambda: sequence(nn.Conv1d(3, 3, 2, padding=1, bias=False), nn.Linear(3, 4)),
    "convolutions one behind the other": lambda: image(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2, stride=2)),
    "linear over a sequence, by Gram": lambda: sequence(nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 4)),
    "linear over a sequence, by product": lambda: sequence(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 4)),
    "embedding": Words,
    "embedding with padding": lambda: Words(padding_idx=1),
    "layer norm": lambda: sequence(nn.Linear(2, 4), nn.LayerNorm(4), nn.Tanh()),
    "layer norm over two dimensions": lambda: sequence(nn.Linear(2, 4), nn.LayerNorm((3, 4))),
    "group norm": lambda: image(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()),
    "batch norm": normed,
    "used twice": Twice,
    "recurrent": Recurrent,
    "attention": Attention,
    "mixture": Scaled,
    "frozen": frozen,
    "no vmap": Stubborn,
    "by name": ByName,
    "weight norm": weight_normed,
}


def examples(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(EXAMPLES, 6, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, torch.randint(3, (EXAMPLES,), generator=generator)


def each_gradient(model: nn.Module, loss, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Gradients of every example's loss, [N, ...], by parameter."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = [
        torch.autograd.grad(loss(model(inputs[i : i + 1]), targets[i : i + 1]).sum(), list(trained.values()))
        for i in range(len(inputs))
    ]
    return {
        name: torch.stack(values).double() for name, values in zip(trained, zip(*gradients, strict=True), strict=True)
    }


def assert_exact(
    model: nn.Module, loss, inputs: Tensor, targets: Tensor, tolerance: float, limits: Limits | None = None
) -> None:
    """Against every example's gradient in double precision: relative to the sum of squares, from which that of the
    mean is subtracted."""
    statistics = gradient_statistics(model, loss, inputs, targets, limits)
    double = inputs.double() if inputs.is_floating_point() else inputs
    oracle = each_gradient(model.double().eval(), loss, double, targets)
    assert statistics.mean.keys() == statistics.variances.keys() == oracle.keys()
    total = sum(gradients.var(dim=0).sum().item() for gradients in oracle.values())
    assert math.isclose(statistics.variance, total, rel_tol=tolerance)
    for name, gradients in oracle.items():
        mean = gradients.mean(dim=0)
        variance = gradients.var(dim=0).sum().item()
        assert math.isclose(statistics.variances[name], variance, rel_tol=tolerance, abs_tol=1e-9 * total), name
        torch.testing.assert_close(statistics.mean[name].double(), mean, rtol=1e3 * tolerance, atol=tolerance)
    norm = math.sqrt(sum(gradients.mean(dim=0).square().sum().item() for gradients in oracle.values()))
    assert math.isclose(math.sqrt(statistics.squared_norm), norm, rel_tol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("values", [1, 2**22], ids=["one by one", "all at once"])
@pytest.mark.parametrize("name", MODELS)
def test_the_pass_agrees_with_the_gradient_of_every_single_example(name, values, dtype, tolerance):
    torch.manual_seed(0)
    limits = Limits(chunk_values=values)
    assert_exact(MODELS[name]().to(dtype), cross_entropy, *examples(dtype), tolerance, limits)


@pytest.mark.parametrize("values", [1, 1500])
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("convolution")])
def test_the_windows_of_a_convolution_may_be_taken_a_few_examples_at_a_time(name, values):
    torch.manual_seed(0)
    limits = Limits(window_values=values)
    assert_exact(MODELS[name]().double(), cross_entropy, *examples(torch.float64), 1e-10, limits)


def test_a_layer_that_some_examples_use_twice_loses_its_formula():
    torch.manual_seed(0)
    limits = Limits(chunk_values=1)
    inputs, targets = examples(torch.float64)
    inputs[[0, 8, 16]] = inputs[[0, 8, 16]].clamp(-1.9, 1.9)
    inputs[5, 0] = 3.0
    model = OnlySometimesTwice().double()
    trial = [0, 8, 16]
    assert list(trusted_layers(model, cross_entropy, inputs[trial], targets[trial], limits)) == ["layer", "head"]
    assert_exact(model, cross_entropy, inputs, targets, 1e-10, limits)


def test_a_transformer_of_tokens():
    torch.manual_seed(0)
    data = counting()
    assert_exact(Transformer().double(), token_loss, data.train_inputs, data.train_targets, 1e-10)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("ReLU network", ["0", "2"]),
        ("in place", ["0", "2"]),
        ("convolutions one behind the other", ["0", "2", "4", "6"]),
        ("batch norm", ["0", "2", "3", "6"]),
        ("embedding", ["embedding", "head"]),
        ("used twice", ["once"]),
        ("recurrent", ["head"]),
        ("attention", ["head"]),
        ("mixture", ["first", "second"]),
        ("frozen", ["0", "4"]),
        ("no vmap", ["layer"]),
    ],
)
def test_formulas_are_used_exactly_where_they_are_right(name, layers):
    torch.manual_seed(0)
    assert (
        list(trusted_layers(MODELS[name]().eval(), cross_entropy, *(part[:3] for part in examples(torch.float32))))
        == layers
    )


def test_the_model_is_left_as_it_was():
    model = normed().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_statistics(model, cross_entropy, *examples(torch.float32))
    assert model.training
    assert all(value.requires_grad for value in model.parameters())
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_examples_that_are_all_alike_have_no_noise():
    inputs, targets = (part[:1].repeat_interleave(9, dim=0) for part in examples(torch.float64))
    statistics = gradient_statistics(MODELS["ReLU network"]().double(), cross_entropy, inputs, targets)
    assert abs(statistics.variance) < 1e-12 * statistics.squared_norm
    assert abs(statistics.noise_scale) < 1e-12
