"""The ensemble against its plain twin: every replica must move as it would alone, under torch.optim."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from suite.training import ensemble as ensemble_module
from suite.training.compilation import no_compiler
from suite.training.ensemble import Ensemble, mean_over
from suite.training.evaluate import evaluate
from suite.training.update_rule import ADAM, DESCENT, MOMENTUM, NESTEROV
from suite.workloads import find
from tests.conftest import cuda, tiny

EXAMPLES, UPDATES = 100, 50
MOMENTA = (0.9, 0.0, 0.9)
RULES = (DESCENT, MOMENTUM, NESTEROV, ADAM)

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


def plainly_updated(workload, replica, rule, rate, momentum, inputs, targets, indices) -> nn.Module:
    model = workload.initial_model(replica).to(inputs.device).train()
    optimizer = rule.twin(model.parameters(), rate, momentum)
    for batch in indices:
        optimizer.zero_grad()
        workload.loss(model(inputs[batch]), targets[batch]).mean().backward()
        optimizer.step()
    return model


def distance(ensemble: Ensemble, replica: int, model: nn.Module) -> float:
    """Norm of the difference of all parameters and buffers over their norm."""
    own = ensemble.parameters | ensemble.buffers
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    pairs = [(own[name][replica].double(), value.detach().double()) for name, value in values.items()]
    difference = torch.cat([(one - other).flatten() for one, other in pairs])
    return float(difference.norm() / torch.cat([other.flatten() for _, other in pairs]).norm())


def assert_equals_its_twins(model, values, rule, batch_size, dtype, updates, compiled=False, device="cpu"):
    """Adam has its usual rate: at larger ones rounding soon lies on the other side of a ReLU's kink, from where every
    weight of its unit makes a whole step elsewhere."""
    workload = of_model(model, dtype)
    inputs, targets = (tensor.to(device) for tensor in examples(values, dtype))
    indices = [batch.to(device) for batch in batches(len(MOMENTA), batch_size, updates)]
    rates = [rate / 100 if rule is ADAM else rate for rate in (0.02, 0.1, 0.01)]
    ensemble = Ensemble(workload, range(3), rates, MOMENTA, rule, device)
    if compiled:
        ensemble.compile(inputs, targets, batch_size)
        assert ensemble.compiled_for(batch_size)
    for batch in indices:
        ensemble.update(inputs, targets, batch)
    for replica, (rate, momentum) in enumerate(zip(rates, MOMENTA, strict=True)):
        own = [batch[replica] for batch in indices]
        twin = plainly_updated(workload, replica, rule, rate, momentum, inputs, targets, own)
        still = workload.initial_model(replica)
        assert distance(ensemble, replica, still.to(device)) > 1e-3
        assert distance(ensemble, replica, twin) < (1e-11 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, EXAMPLES])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_replica_moves_as_it_would_alone(network, rule, batch_size, dtype):
    model, values, updates = NETWORKS[network]
    assert_equals_its_twins(model, values, rule, batch_size, dtype, UPDATES if dtype == torch.float64 else updates)


def assert_equals_its_twins_compiled(network, rule, batch_size, dtype):
    model, values, updates = NETWORKS[network]
    updates = UPDATES if dtype == torch.float64 else updates
    assert_equals_its_twins(model, values, rule, batch_size, dtype, updates, compiled=True)


@compiler
@pytest.mark.parametrize(
    ("network", "rule", "batch_size", "dtype"),
    [
        ("digits", DESCENT, 1, torch.float32),
        ("digits", ADAM, 7, torch.float64),
        ("mnist", NESTEROV, 32, torch.float32),
        ("convolution", MOMENTUM, 7, torch.float32),
    ],
)
def test_compiled_too(network, rule, batch_size, dtype):
    assert_equals_its_twins_compiled(network, rule, batch_size, dtype)


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, EXAMPLES])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_by_every_rule_at_every_batch_size(network, rule, batch_size, dtype):
    assert_equals_its_twins_compiled(network, rule, batch_size, dtype)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_batch_norm_keeps_statistics_for_each_replica(rule):
    assert_equals_its_twins(normed, 64, rule, 7, torch.float64, UPDATES)


@compiler
def test_batch_norm_compiled():
    assert_equals_its_twins(normed, 64, MOMENTUM, 7, torch.float64, UPDATES, compiled=True)


@cuda
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_on_a_gpu_too(rule, compiled):
    for batch_size in (1, 7, EXAMPLES):
        model, values, _ = NETWORKS["digits"]
        assert_equals_its_twins(model, values, rule, batch_size, torch.float64, UPDATES, compiled, "cuda")


@pytest.mark.parametrize("others", [1, 2, 63])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_replica_moves_the_same_whoever_is_beside_it(network, others):
    model, values, updates = NETWORKS[network]
    workload, (inputs, targets) = of_model(model, torch.float32), examples(values)
    ensemble = Ensemble(workload, range(others + 1), 0.1)
    indices = [batch[0] for batch in batches(1, 7, updates)]
    for batch in indices:
        ensemble.update(inputs, targets, torch.stack([batch, *[batch.flip(0)] * others]))
    twin = plainly_updated(workload, 0, DESCENT, 0.1, 0, inputs, targets, indices)
    assert distance(ensemble, 0, twin) < 1e-5


def test_a_replica_that_diverges_does_not_disturb_the_others():
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    ensemble = Ensemble(workload, range(3), [0.1, 1e30, 0.1])
    for batch in batches(3, 7, UPDATES):
        ensemble.update(inputs, targets, batch)
    losses, _ = ensemble.evaluate(inputs, targets)
    assert not torch.isfinite(losses[1])
    for replica in (0, 2):
        indices = [batch[replica] for batch in batches(3, 7, UPDATES)]
        twin = plainly_updated(workload, replica, DESCENT, 0.1, 0, inputs, targets, indices)
        assert distance(ensemble, replica, twin) < 1e-5


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


def test_frozen_parameters_stay_and_shared_ones_stay_shared():
    def model():
        first, second, frozen = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        second.weight = first.weight
        frozen.weight.requires_grad_(False)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), frozen)

    assert_equals_its_twins(model, 64, MOMENTUM, 7, torch.float64, UPDATES)


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
