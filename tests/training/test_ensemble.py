"""The ensemble against its reference implementation: every replica moves as it would alone, under torch.optim."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training import ensemble as ensemble_module
from suite.training.compilation import no_compiler
from suite.training.ensemble import Ensemble, mean_over
from suite.training.evaluate import evaluate
from suite.workloads import find
from tests.conftest import cuda, tiny

EXAMPLES, UPDATES = 100, 50
RATES = (0.02, 0.1, 0.01)
MOMENTA = (0.9, 0.0, 0.9)
"""Of each replica's own, where SGD has momentum."""
OPTIMIZERS = {
    "sgd": sgd(),
    "momentum": sgd(momentum=0.9),
    "nesterov": sgd(momentum=0.9, nesterov=True),
    "adam": adam(),
    "adamw": adamw(weight_decay=0.1),
}
FURTHER = {
    "sgd, weight decay": sgd(weight_decay=0.1),
    "momentum, weight decay": sgd(momentum=0.9, weight_decay=0.1),
    "momentum, dampening, weight decay": sgd(momentum=0.9, dampening=0.5, weight_decay=0.1),
    "nesterov, weight decay": sgd(momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam, weight decay": adam(weight_decay=0.1),
    "adam without momentum": adam(betas=(0.0, 0.99)),
    "adamw, groups": adamw(weight_decay=0.1).group("*.bias", weight_decay=0, lr_scale=2),
}
optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)

compiler = pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))


def convolution() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.Flatten(), nn.Linear(16, 10))


def normed() -> nn.Module:
    """Without a bias before the norm: its gradient is nothing but rounding, which Adam blows up."""
    return nn.Sequential(nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


NETWORKS = {
    "digits": (find("digits").model, 64, UPDATES),
    "mnist": (find("mnist").model, 784, UPDATES),
    "convolution": (convolution, 64, 5),
}
"""Model, input values, and after how many updates float32 is compared: rounding grows fastest in convolutions."""


def examples(values: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(EXAMPLES, values, generator=generator, dtype=dtype) ** 4  # mostly dark, as digits are
    return inputs, torch.randint(10, (EXAMPLES,), generator=generator)


def batches(replicas: int, batch_size: int, updates: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    order = torch.stack([torch.randperm(EXAMPLES, generator=generator) for _ in range(replicas)])
    return [(order + 7 * update)[:, :batch_size] % EXAMPLES for update in range(updates)]


def of_model(model, dtype):
    return tiny(model=lambda: model().to(dtype))


def reference(workload, replica, optimizer: Optimizer, rate, inputs, targets, indices) -> nn.Module:
    """The model of `replica` after an update from each batch of `indices`, by torch's own optimizer."""
    model = workload.initial_model(replica).to(inputs.device).train()
    made = optimizer.make(model, rate)
    for batch in indices:
        made.zero_grad()
        workload.loss(model(inputs[batch]), targets[batch]).mean().backward()
        made.step()
    return model


def distance(ensemble: Ensemble, replica: int, model: nn.Module) -> float:
    """Norm of the difference of all parameters and buffers over their norm."""
    own = ensemble.parameters | ensemble.buffers
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    pairs = [(own[name][replica].double(), value.detach().double()) for name, value in values.items()]
    difference = torch.cat([(one - other).flatten() for one, other in pairs])
    return float(difference.norm() / torch.cat([other.flatten() for _, other in pairs]).norm())


def with_own_momentum(optimizer: Optimizer, momentum: float) -> Optimizer:
    """torch refuses Nesterov's momentum of zero, which is none."""
    return optimizer.changed(momentum=momentum, nesterov=optimizer.get("nesterov") and momentum > 0)


def assert_equals_references(model, values, optimizer, batch_size, dtype, updates, compiled=False, device="cpu"):
    """Replicas have rates of their own and, where SGD has momentum and no dampening, momenta.

    Adam has its usual rate: at larger ones rounding soon lies on the other side of a ReLU's kink, from where every
    weight of its unit makes a whole step elsewhere.
    """
    workload = of_model(model, dtype)
    inputs, targets = (tensor.to(device) for tensor in examples(values, dtype))
    indices = [batch.to(device) for batch in batches(len(RATES), batch_size, updates)]
    rates = [rate / 100 if optimizer.form.averages else rate for rate in RATES]
    own_momenta = optimizer.get("momentum") and not optimizer.get("dampening")
    varied = {"momentum": MOMENTA} if own_momenta else None
    ensemble = Ensemble(workload, range(3), rates, optimizer, device, varied)
    if compiled:
        ensemble.compile(inputs, targets, batch_size)
        assert ensemble.compiled_for(batch_size)
    for batch in indices:
        ensemble.update(inputs, targets, batch)
    for replica, (rate, momentum) in enumerate(zip(rates, MOMENTA, strict=True)):
        own = [batch[replica] for batch in indices]
        alone = with_own_momentum(optimizer, momentum) if own_momenta else optimizer
        expected = reference(workload, replica, alone, rate, inputs, targets, own)
        still = workload.initial_model(replica)
        assert distance(ensemble, replica, still.to(device)) > 1e-3
        assert distance(ensemble, replica, expected) < (1e-11 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, EXAMPLES])
@optimizers
@pytest.mark.parametrize("network", NETWORKS)
def test_every_replica_moves_as_it_would_alone(network, optimizer, batch_size, dtype):
    model, values, updates = NETWORKS[network]
    updates = UPDATES if dtype == torch.float64 else updates
    assert_equals_references(model, values, optimizer, batch_size, dtype, updates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("optimizer", FURTHER.values(), ids=FURTHER)
def test_by_further_hyperparameters_too(optimizer, dtype):
    model, values, _ = NETWORKS["digits"]
    assert_equals_references(model, values, optimizer, 7, dtype, UPDATES)


VARIED = {
    "weight decay of sgd": (sgd(momentum=0.9), "weight_decay", (0.0, 0.1, 0.3)),
    "dampening": (sgd(momentum=0.9), "dampening", (0.0, 0.5, 0.9)),
    "weight decay of adam": (adam(), "weight_decay", (0.0, 0.1, 0.3)),
    "weight decay of adamw": (adamw(), "weight_decay", (0.0, 0.1, 0.3)),
    "eps": (adamw(), "eps", (1e-8, 1e-4, 1e-2)),
}


@pytest.mark.parametrize(("optimizer", "name", "values"), VARIED.values(), ids=VARIED)
def test_replicas_may_have_hyperparameters_of_their_own(optimizer, name, values):
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float64), examples(64, torch.float64)
    indices, rate = batches(3, 7, UPDATES), 0.001 if optimizer.form.averages else 0.02
    ensemble = Ensemble(workload, range(3), rate, optimizer, varied={name: values})
    for batch in indices:
        ensemble.update(inputs, targets, batch)
    for replica, value in enumerate(values):
        own = [batch[replica] for batch in indices]
        expected = reference(workload, replica, optimizer.changed(**{name: value}), rate, inputs, targets, own)
        assert distance(ensemble, replica, expected) < 1e-11


def assert_equals_references_compiled(network, optimizer, batch_size, dtype):
    model, values, updates = NETWORKS[network]
    updates = UPDATES if dtype == torch.float64 else updates
    assert_equals_references(model, values, optimizer, batch_size, dtype, updates, compiled=True)


@compiler
@pytest.mark.parametrize(
    ("network", "optimizer", "batch_size", "dtype"),
    [
        ("digits", "sgd", 1, torch.float32),
        ("digits", "adam", 7, torch.float64),
        ("digits", "adamw", 7, torch.float64),
        ("mnist", "nesterov", 32, torch.float32),
        ("convolution", "momentum", 7, torch.float32),
    ],
)
def test_compiled_too(network, optimizer, batch_size, dtype):
    assert_equals_references_compiled(network, OPTIMIZERS[optimizer], batch_size, dtype)


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, EXAMPLES])
@optimizers
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_with_every_optimizer_at_every_batch_size(network, optimizer, batch_size, dtype):
    assert_equals_references_compiled(network, optimizer, batch_size, dtype)


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", FURTHER.values(), ids=FURTHER)
def test_compiled_by_further_hyperparameters_too(optimizer):
    assert_equals_references_compiled("digits", optimizer, 7, torch.float64)


@optimizers
def test_batch_norm_keeps_statistics_for_each_replica(optimizer):
    assert_equals_references(normed, 64, optimizer, 7, torch.float64, UPDATES)


@compiler
def test_batch_norm_compiled():
    assert_equals_references(normed, 64, OPTIMIZERS["momentum"], 7, torch.float64, UPDATES, compiled=True)


@cuda
@pytest.mark.parametrize("optimizer", (OPTIMIZERS | FURTHER).values(), ids=OPTIMIZERS | FURTHER)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_on_a_gpu_too(optimizer, compiled):
    for batch_size in (1, 7, EXAMPLES):
        model, values, _ = NETWORKS["digits"]
        assert_equals_references(model, values, optimizer, batch_size, torch.float64, UPDATES, compiled, "cuda")


@pytest.mark.parametrize("others", [1, 2, 63])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_replica_moves_the_same_whoever_is_beside_it(network, others):
    model, values, updates = NETWORKS[network]
    workload, (inputs, targets) = of_model(model, torch.float32), examples(values)
    ensemble = Ensemble(workload, range(others + 1), 0.1)
    indices = [batch[0] for batch in batches(1, 7, updates)]
    for batch in indices:
        ensemble.update(inputs, targets, torch.stack([batch, *[batch.flip(0)] * others]))
    expected = reference(workload, 0, sgd(), 0.1, inputs, targets, indices)
    assert distance(ensemble, 0, expected) < 1e-5


def test_a_replica_that_diverges_does_not_disturb_the_others():
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    ensemble = Ensemble(workload, range(3), [0.1, 1e30, 0.1])
    for batch in batches(3, 7, UPDATES):
        ensemble.update(inputs, targets, batch)
    losses, _ = ensemble.evaluate(inputs, targets)
    assert not torch.isfinite(losses[1])
    for replica in (0, 2):
        indices = [batch[replica] for batch in batches(3, 7, UPDATES)]
        expected = reference(workload, replica, sgd(), 0.1, inputs, targets, indices)
        assert distance(ensemble, replica, expected) < 1e-5


def test_replicas_drop_different_values():
    workload = tiny(model=lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10)))
    inputs, targets = examples(64)
    ensemble = Ensemble(workload, [0, 0], 0.1)
    ensemble.update(inputs, targets, torch.arange(20).expand(2, -1))
    first, second = ensemble.parameters["1.weight"]
    assert not torch.equal(first, second)
    losses, _ = ensemble.evaluate(inputs, targets)
    assert losses[0] != losses[1]
    assert torch.equal(ensemble.evaluate(inputs, targets)[0], losses)


@pytest.mark.parametrize("optimizer", [OPTIMIZERS["momentum"], OPTIMIZERS["adamw"]], ids=["momentum", "adamw"])
def test_frozen_parameters_stay_and_shared_ones_stay_shared(optimizer):
    def model():
        first, second, frozen = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        second.weight = first.weight
        frozen.weight.requires_grad_(False)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), frozen)

    assert_equals_references(model, 64, optimizer, 7, torch.float64, UPDATES)


@pytest.mark.parametrize("own_examples", [True, False])
@pytest.mark.parametrize("values_in_a_pass", [1, 10_000, 2**20])
def test_an_evaluation_equals_that_of_each_replica_alone(monkeypatch, own_examples, values_in_a_pass):
    monkeypatch.setattr(ensemble_module, "EVALUATED_VALUES", values_in_a_pass)
    workload, (inputs, targets) = tiny(model=normed), examples(64)
    ensemble = Ensemble(workload, range(3), 0.1)
    ensemble.update(inputs, targets, torch.arange(20).expand(3, -1))
    indices = batches(3, 60, 1)[0] if own_examples else None
    losses, scores = mean_over(ensemble.losses_and_scores(inputs, targets), indices)
    for replica in range(3):
        model = workload.initial_model(replica)
        model.load_state_dict(
            {name: stacked[replica] for name, stacked in (ensemble.parameters | ensemble.buffers).items()}
        )
        own = slice(None) if indices is None else indices[replica]
        loss, score = evaluate(workload, model, inputs[own], targets[own])
        assert losses[replica].item() == pytest.approx(loss, rel=1e-6)
        assert scores[replica].item() == pytest.approx(score, rel=1e-6)


@compiler
@pytest.mark.parametrize("gathered_values", [1, 2**30])
def test_compiled_batches_are_the_same_gathered_beforehand_or_within(monkeypatch, gathered_values):
    monkeypatch.setattr(ensemble_module, "GATHERED_VALUES", gathered_values)
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    eager, fast = (Ensemble(workload, range(3), 0.1) for _ in range(2))
    fast.compile(inputs, targets, 5)
    for batch in batches(3, 5, 4):
        for ensemble in (eager, fast):
            ensemble.update(inputs, targets, batch)
    for name, parameter in eager.parameters.items():
        torch.testing.assert_close(fast.parameters[name], parameter)


@compiler
def test_a_compiled_update_takes_indices_that_all_replicas_share():
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    shared = torch.arange(9).expand(3, -1)
    eager, fast = (Ensemble(workload, range(3), 0.1) for _ in range(2))
    fast.compile(inputs, targets, 9)
    for ensemble in (eager, fast):
        ensemble.update(inputs, targets, shared)
    for name, parameter in eager.parameters.items():
        torch.testing.assert_close(fast.parameters[name], parameter)


@compiler
def test_a_shape_is_compiled_once_for_all_ensembles(monkeypatch):
    made = []
    monkeypatch.setattr(ensemble_module, "compiled", lambda *arguments: made.append(arguments) or (lambda *_: None))
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    for batch_size in [*range(1, 21), 3, 5]:
        Ensemble(workload, range(2), 0.1).compile(inputs, targets, batch_size)
    assert len(made) == 20


@compiler
def test_what_another_process_compiled_is_taken_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    before = counters["inductor"]["fxgraph_cache_hit"]
    for hits in (0, 1):
        monkeypatch.setattr(ensemble_module, "_COMPILED", {})  # as in a new process
        Ensemble(workload, range(2), 0.1).compile(inputs, targets, 11)
        assert counters["inductor"]["fxgraph_cache_hit"] == before + hits


def test_without_a_compiler_the_eager_ensemble_runs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in no_compiler()
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    ensemble = Ensemble(workload, range(2), 0.1)
    ensemble.compile(inputs, targets, 7)
    assert not ensemble.compiled_for(7)
    ensemble.update(inputs, targets, batches(2, 7, 1)[0])
