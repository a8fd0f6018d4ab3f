"""The ensemble against its reference implementation: every replica moves as it does alone with torch.optim."""

import psutil
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.async_compile import AsyncCompile

from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training.compilation import no_compiler
from suite.training.ensemble import Ensemble, UpdateCache, mean_over
from suite.training.evaluate import evaluate
from suite.workloads import find
from tests.conftest import cuda, tiny

EXAMPLES, UPDATES = 100, 50
RATES = (0.02, 0.1, 0.01)
MOMENTA = (0.9, 0.0, 0.9)
"""The momentum of each replica, where SGD has momentum."""
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
    """Without a bias before the norm: its gradient is pure rounding, which Adam amplifies."""
    return nn.Sequential(nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


NETWORKS = {
    "digits": (find("digits").model, 64, UPDATES),
    "mnist": (find("mnist").model, 784, UPDATES),
    "convolution": (convolution, 64, 5),
}
"""Model, input values, and number of updates in float32: rounding errors grow fastest in convolutions."""


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
    """The model of `replica` after an update from each batch of `indices`, with the torch optimizer."""
    model = workload.initial_model(replica).to(inputs.device).train()
    torch_optimizer = optimizer.make(model, rate)
    for batch in indices:
        torch_optimizer.zero_grad()
        workload.loss(model(inputs[batch]), targets[batch]).mean().backward()
        torch_optimizer.step()
    return model


def distance(ensemble: Ensemble, replica: int, model: nn.Module) -> float:
    """Norm of the difference of all parameters and buffers, over the norm of those of `model`."""
    stacked = ensemble.parameters | ensemble.buffers
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    actual = torch.cat([stacked[name][replica].double().flatten() for name in state])
    expected = torch.cat([value.detach().double().flatten() for value in state.values()])
    return float((actual - expected).norm() / expected.norm())


def with_momentum(optimizer: Optimizer, momentum: float) -> Optimizer:
    """The optimizer with another momentum; torch rejects a zero Nesterov momentum."""
    return optimizer.changed(momentum=momentum, nesterov=optimizer.get("nesterov") and momentum > 0)


def assert_equals_references(model, values, optimizer, batch_size, dtype, updates, compiled=False, device="cpu"):
    """Each replica has its own learning rate and, where SGD has momentum and no dampening, its own momentum.

    Adam has its usual learning rate: at larger ones a rounding error soon crosses the kink of a ReLU, after which
    every weight of the unit makes a different step.
    """
    workload = of_model(model, dtype)
    inputs, targets = (tensor.to(device) for tensor in examples(values, dtype))
    indices = [batch.to(device) for batch in batches(len(RATES), batch_size, updates)]
    rates = [rate / 100 if optimizer.form.averages else rate for rate in RATES]
    varies_momentum = optimizer.get("momentum") and not optimizer.get("dampening")
    varied = {"momentum": MOMENTA} if varies_momentum else None
    ensemble = Ensemble(workload, range(3), rates, optimizer, device, varied)
    if compiled:
        ensemble.compile(inputs, targets, batch_size)
        assert ensemble.compiled_for(batch_size)
    for batch in indices:
        ensemble.update(inputs, targets, batch)
    for replica, (rate, momentum) in enumerate(zip(rates, MOMENTA, strict=True)):
        replica_indices = [batch[replica] for batch in indices]
        replica_optimizer = with_momentum(optimizer, momentum) if varies_momentum else optimizer
        expected = reference(workload, replica, replica_optimizer, rate, inputs, targets, replica_indices)
        initial = workload.initial_model(replica)
        assert distance(ensemble, replica, initial.to(device)) > 1e-3
        assert distance(ensemble, replica, expected) < (1e-11 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, EXAMPLES])
@optimizers
@pytest.mark.parametrize("network", NETWORKS)
def test_every_replica_moves_as_it_does_alone(network, optimizer, batch_size, dtype):
    model, values, updates = NETWORKS[network]
    updates = UPDATES if dtype == torch.float64 else updates
    assert_equals_references(model, values, optimizer, batch_size, dtype, updates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("optimizer", FURTHER.values(), ids=FURTHER)
def test_every_replica_moves_as_it_does_alone_with_further_hyperparameters(optimizer, dtype):
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
def test_each_replica_may_have_its_own_hyperparameter(optimizer, name, values):
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float64), examples(64, torch.float64)
    indices, rate = batches(3, 7, UPDATES), 0.001 if optimizer.form.averages else 0.02
    ensemble = Ensemble(workload, range(3), rate, optimizer, varied={name: values})
    for batch in indices:
        ensemble.update(inputs, targets, batch)
    for replica, value in enumerate(values):
        replica_indices, replica_optimizer = [batch[replica] for batch in indices], optimizer.changed(**{name: value})
        expected = reference(workload, replica, replica_optimizer, rate, inputs, targets, replica_indices)
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
def test_every_replica_of_a_compiled_ensemble_moves_as_it_does_alone(network, optimizer, batch_size, dtype):
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
def test_compiled_with_further_hyperparameters(optimizer):
    assert_equals_references_compiled("digits", optimizer, 7, torch.float64)


@optimizers
def test_each_replica_has_its_own_batch_norm_statistics(optimizer):
    assert_equals_references(normed, 64, optimizer, 7, torch.float64, UPDATES)


@compiler
def test_each_replica_of_a_compiled_ensemble_has_its_own_batch_norm_statistics():
    assert_equals_references(normed, 64, OPTIMIZERS["momentum"], 7, torch.float64, UPDATES, compiled=True)


@cuda
@pytest.mark.parametrize("optimizer", (OPTIMIZERS | FURTHER).values(), ids=OPTIMIZERS | FURTHER)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_every_replica_moves_on_a_gpu_as_it_does_alone(optimizer, compiled):
    for batch_size in (1, 7, EXAMPLES):
        model, values, _ = NETWORKS["digits"]
        assert_equals_references(model, values, optimizer, batch_size, torch.float64, UPDATES, compiled, "cuda")


@pytest.mark.parametrize("others", [1, 2, 63])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_replica_does_not_depend_on_the_others_in_its_ensemble(network, others):
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


def test_replicas_have_different_dropout():
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
def test_frozen_parameters_stay_constant_and_shared_ones_shared(optimizer):
    def model():
        first, second, frozen = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        second.weight = first.weight
        frozen.weight.requires_grad_(False)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), frozen)

    assert_equals_references(model, 64, optimizer, 7, torch.float64, UPDATES)


@pytest.mark.parametrize("has_indices", [True, False])
@pytest.mark.parametrize("pass_values", [1, 10_000, 2**20])
def test_an_evaluation_equals_that_of_each_replica_alone(has_indices, pass_values):
    workload, (inputs, targets) = tiny(model=normed), examples(64)
    ensemble = Ensemble(workload, range(3), 0.1)
    ensemble.update(inputs, targets, torch.arange(20).expand(3, -1))
    indices = batches(3, 60, 1)[0] if has_indices else None
    losses, scores = mean_over(ensemble.losses_and_scores(inputs, targets, pass_values), indices)
    for replica in range(3):
        model = workload.initial_model(replica)
        model.load_state_dict(
            {name: stacked[replica] for name, stacked in (ensemble.parameters | ensemble.buffers).items()}
        )
        part = slice(None) if indices is None else indices[replica]
        loss, score = evaluate(workload, model, inputs[part], targets[part])
        assert losses[replica].item() == pytest.approx(loss, rel=1e-6)
        assert scores[replica].item() == pytest.approx(score, rel=1e-6)


@compiler
@pytest.mark.parametrize("gather_values", [1, 2**30])
def test_a_compiled_update_is_the_same_whether_batches_are_gathered_before_or_within(gather_values):
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    eager, fast = (Ensemble(workload, range(3), 0.1) for _ in range(2))
    fast.compile(inputs, targets, 5, gather_values)
    for batch in batches(3, 5, 4):
        for ensemble in (eager, fast):
            ensemble.update(inputs, targets, batch)
    for name, parameter in eager.parameters.items():
        torch.testing.assert_close(fast.parameters[name], parameter)


@compiler
def test_a_compiled_update_accepts_the_same_indices_for_all_replicas():
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    shared = torch.arange(9).expand(3, -1)
    eager, fast = (Ensemble(workload, range(3), 0.1) for _ in range(2))
    fast.compile(inputs, targets, 9)
    for ensemble in (eager, fast):
        ensemble.update(inputs, targets, shared)
    for name, parameter in eager.parameters.items():
        torch.testing.assert_close(fast.parameters[name], parameter)


@compiler
def test_a_shape_is_compiled_once_for_all_ensembles():
    compilations = []
    cache = UpdateCache(lambda *arguments: compilations.append(arguments) or (lambda *_: None))
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    for batch_size in [*range(1, 21), 3, 5]:
        Ensemble(workload, range(2), 0.1).compile(inputs, targets, batch_size, cache=cache)
    assert len(compilations) == 20


@compiler
def test_ensembles_share_the_cache_of_the_process_by_default():
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    hits_and_misses = [counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss")]
    Ensemble(workload, range(2), 0.1).compile(inputs, targets, 13)
    assert [counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss")] != hits_and_misses
    hits_and_misses = [counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss")]
    Ensemble(workload, range(2), 0.1).compile(inputs, targets, 13)
    assert [counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss")] == hits_and_misses


@compiler
def test_a_compilation_starts_no_pool_of_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    before = set(psutil.Process().children(recursive=True))
    Ensemble(workload, range(2), 0.1).compile(inputs, targets, 12, cache=UpdateCache())
    assert set(psutil.Process().children(recursive=True)) <= before
    assert AsyncCompile.process_pool.cache_info().currsize == 0


@compiler
def test_a_compilation_of_another_process_is_reused_from_the_cache_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    before = counters["inductor"]["fxgraph_cache_hit"]
    for hits in (0, 1):
        new_process = UpdateCache()
        Ensemble(workload, range(2), 0.1).compile(inputs, targets, 11, cache=new_process)
        assert counters["inductor"]["fxgraph_cache_hit"] == before + hits


def test_without_a_compiler_the_eager_update_runs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in no_compiler()
    workload, (inputs, targets) = of_model(NETWORKS["digits"][0], torch.float32), examples(64)
    ensemble = Ensemble(workload, range(2), 0.1)
    ensemble.compile(inputs, targets, 7, cache=UpdateCache())
    assert not ensemble.compiled_for(7)
    ensemble.update(inputs, targets, batches(2, 7, 1)[0])
