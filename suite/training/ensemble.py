"""Independent replicas of one model, updated in lockstep by one call.

An update of a small network from a small batch is nearly all overhead, which replicas share here. Their parameters
are stacked, `torch.func` computes the gradient of each replica from its batch, and inductor, the compiler behind
`torch.compile`, fuses gradient and step into a few kernels. The reference implementation is `suite.training.plain`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from suite import devices
from suite.optimizers import Optimizer
from suite.training.average import RunningAverage
from suite.training.compilation import capture, compile_in_place
from suite.workloads import Workload
from suite.workloads.chunks import values_of_an_example

EVALUATION_VALUES = 2**20
"""Limit of the values of a tensor, over all replicas, in one forward pass of an evaluation."""
GATHER_VALUES = 2**16
"""Input values of a batch, over all replicas, from which a CPU gathers batches before a compiled update: copying rows
into the same memory at each update is several times faster than reading single values, and allocates no pages."""


class Ensemble:
    """R `replicas` of `workload`, each with its own initial parameters and learning rate.

    `parameters` and `buffers` map names to tensors [R, ...], which an update changes in place. `learning_rates` [R]
    may be changed in place between updates. A replica that diverges does not affect the others.
    """

    def __init__(
        self,
        workload: Workload,
        replicas: Sequence[int],
        learning_rates: float | Sequence[float],
        optimizer: Optimizer | None = None,
        device: torch.device | str = "cpu",
        varied: Mapping[str, Sequence[float]] | None = None,
    ):
        """`optimizer` is that of the workload by default, and has a stacked form. `varied` maps names of its
        hyperparameters to one value per replica."""
        models = [workload.initial_model(replica).to(device) for replica in replicas]
        parameters, buffers = stack_module_state(models)
        self.parameters = {name: stacked.detach() for name, stacked in parameters.items()}
        self.buffers = {name: stacked.detach() for name, stacked in buffers.items()}
        self.workload, self.optimizer, self.size = workload, optimizer or workload.optimizer, len(models)
        self.varied = tuple(varied or ())
        dtype = next(iter(self.parameters.values())).dtype
        rates, *varied_values = (
            torch.as_tensor(values, dtype=dtype, device=device).expand(self.size).contiguous()
            for values in (learning_rates, *(varied or {}).values())
        )
        states = [
            torch.zeros_like(self.parameters[name])
            for name, count in state_counts(workload, self.optimizer, self.varied).items()
            for _ in range(count)
        ]
        updates = torch.zeros((), dtype=devices.of(device).widest_float, device=device)
        self.learning_rates = rates
        self.state = [*self.parameters.values(), *self.buffers.values(), *states, rates, *varied_values, updates]
        self.average: RunningAverage | None = None
        self.evaluated = (self.parameters, self.buffers)
        self._fast: dict[int, Callable[[Tensor], None]] = {}

    def average_parameters(self) -> None:
        """Evaluate the running averages of parameters and buffers over the coming updates, not their last values."""
        state = {**self.parameters, **self.buffers}
        averages = {name: tensor.clone() for name, tensor in state.items()}
        self.average = RunningAverage(list(state.values()), list(averages.values()))
        self.evaluated = tuple({name: averages[name] for name in part} for part in (self.parameters, self.buffers))

    def update(self, inputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        """Update every replica: replica r from the batch `indices[r]` (int64 [R, B]) of the examples.

        `inputs` [M, ...] and `targets` [M, ...] hold all examples.
        """
        self._update(inputs, targets, indices)
        if self.average:
            self.average.update()

    def _update(self, inputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        if fast := self._fast.get(indices.shape[1]):
            fast(indices.contiguous())
        else:
            update = update_function(self.workload, self.optimizer, self.varied)
            update(*self.state, inputs[indices], targets[indices])

    def compile(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        gather_values: int = GATHER_VALUES,
        cache: "UpdateCache | None" = None,
    ) -> None:
        """Compile the update from batches of `batch_size` of these examples, and capture it as a graph on a device
        that supports graphs. Later updates with this batch size must be from the same examples.

        A CPU gathers batches of at least `gather_values` input values before the update. `cache` is that of this
        process by default. Without a compiler the update stays as it is.
        """
        indices = torch.zeros(self.size, batch_size, dtype=torch.int64, device=inputs.device)
        examples = (inputs, targets)
        gather = BatchGather(examples, indices) if worth_gathering(inputs, indices, gather_values) else None
        update_inputs = gather(indices) if gather else (*examples, indices)
        with devices.random_state_restored():  # compiling and capturing run updates, which may draw
            function = (cache or PROCESS_CACHE).update(self, update_inputs)
            if function is None:
                return
            if devices.of(inputs).captures:
                self._fast[batch_size] = capture(function, self.state, examples, indices)
            elif gather:
                self._fast[batch_size] = lambda indices: function(*self.state, *gather(indices))
            else:
                self._fast[batch_size] = lambda indices: function(*self.state, *examples, indices)

    def compiled_for(self, batch_size: int) -> bool:
        """Whether the update from batches of `batch_size` is compiled."""
        return batch_size in self._fast

    def evaluate(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and mean score of every replica over `inputs` [N, ...] in evaluation mode, each [R] in the widest
        float of the device."""
        return mean_over(self.losses_and_scores(inputs, targets))

    def losses_and_scores(self, inputs: Tensor, targets: Tensor, pass_values: int = EVALUATION_VALUES) -> Tensor:
        """Loss and score of every replica on every example in evaluation mode, [2, R, N] in the widest float of the
        device. No tensor of a forward pass has more than `pass_values` values, over all replicas, unless one example
        has."""
        function = evaluation_function(self.workload)
        chunk = max(1, pass_values // (self.size * values_of_an_example(self.workload, inputs)))
        parts = zip(inputs.split(chunk), targets.split(chunk), strict=True)
        return torch.cat([function(*self.evaluated, *part) for part in parts], dim=2)


class BatchGather:
    """A function of indices [R, B] that copies the batches of all replicas, inputs and targets [R, B, ...], into the
    same memory at each call."""

    def __init__(self, examples: Sequence[Tensor], indices: Tensor):
        self.examples = examples
        self.batches = [tensor.new_empty(*indices.shape, *tensor.shape[1:]) for tensor in examples]

    def __call__(self, indices: Tensor) -> list[Tensor]:
        for tensor, batch in zip(self.examples, self.batches, strict=True):
            torch.index_select(tensor, 0, indices.flatten(), out=batch.flatten(0, 1))
        return self.batches


def worth_gathering(inputs: Tensor, indices: Tensor, gather_values: int = GATHER_VALUES) -> bool:
    """Whether to gather batches before a compiled update. On an accelerator the update itself gathers them."""
    accelerated = devices.of(inputs).is_accelerator
    return not accelerated and indices.numel() * math.prod(inputs.shape[1:]) >= gather_values


def mean_over(values: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean loss and mean score [R] of `values` [2, R, N]: over all examples, or over those at `indices` [R, M]."""
    chosen = values if indices is None else values.gather(2, indices.expand(2, -1, -1))
    loss, score = chosen.mean(dim=2)
    return loss, score


@cache
def trained_names(workload: Workload) -> tuple[str, ...]:
    """Names of the parameters that require a gradient."""
    model = workload.initial_model(0)
    return tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)


@cache
def state_counts(workload: Workload, optimizer: Optimizer, varied: tuple[str, ...] = ()) -> dict[str, int]:
    """By the name of each trained parameter, the number of tensors that the optimizer keeps for it. A hyperparameter
    in `varied` counts as different from zero."""
    return {
        name: optimizer.form.states(optimizer.of_parameter(name)[0] | dict.fromkeys(varied, 1.0))
        for name in trained_names(workload)
    }


@cache
def update_function(workload: Workload, optimizer: Optimizer, varied: tuple[str, ...] = ()) -> Callable[..., None]:
    """The update as a function of the ensemble's state, which it changes in place, and of the inputs and targets
    [R, B, ...] of a batch."""
    model = workload.initial_model(0).train()
    names = [name for name, _ in model.named_parameters()]
    buffer_names = [name for name, _ in model.named_buffers()]
    counts = state_counts(workload, optimizer, varied)
    settings = {name: optimizer.of_parameter(name) for name in counts}
    form = optimizer.form

    def mean_loss(trained, frozen, buffers, inputs, targets):
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        outputs = functional_call(model, (trained, frozen, buffers), (inputs,))
        return workload.loss(outputs, targets).mean(), buffers

    gradients_of = vmap(grad(mean_loss, has_aux=True), randomness="different")

    def update(*tensors: Tensor) -> None:
        *state, updates, inputs, targets = tensors
        rates, values = state[-1 - len(varied)], dict(zip(varied, state[len(state) - len(varied) :], strict=True))
        parameters = dict(zip(names, state, strict=False))
        buffers = dict(zip(buffer_names, state[len(names) :], strict=False))
        optimizer_state = iter(state[len(names) + len(buffers) :])
        trained = {name: parameters.pop(name) for name in counts}
        with layers_that_vmap_knows():
            gradients, new_buffers = gradients_of(trained, parameters, buffers, inputs, targets)
        updates.add_(1)
        for name, parameter in trained.items():
            shared, lr_scale = settings[name]
            per_replica = (-1, *[1] * (parameter.dim() - 1))
            rate = rates.view(per_replica) if lr_scale == 1 else lr_scale * rates.view(per_replica)
            hyperparameters = shared | {key: value.view(per_replica) for key, value in values.items()}
            parameter_state = [next(optimizer_state) for _ in range(counts[name])]
            form.step(parameter, gradients[name], parameter_state, rate, hyperparameters, updates)
        for name, buffer in buffers.items():
            buffer.copy_(new_buffers[name])

    return update


def gather_then(update: Callable[..., None]) -> Callable[..., None]:
    """The `update` as a function of all examples and of the indices [R, B] of the batches."""

    def gather_and_update(*tensors: Tensor) -> None:
        *state, inputs, targets, indices = tensors
        update(*state, inputs[indices], targets[indices])

    return gather_and_update


@cache
def evaluation_function(workload: Workload) -> Callable[..., Tensor]:
    """A function of parameters and buffers [R, ...], inputs and targets [N, ...] that returns losses and scores
    [2, R, N]."""
    model = workload.initial_model(0).eval()

    def values(parameters, buffers, inputs, targets):
        outputs = functional_call(model, (parameters, buffers), (inputs,))
        wide = devices.of(outputs).widest_float
        return torch.stack([workload.loss(outputs, targets).to(wide), workload.score(outputs, targets).to(wide)])

    evaluate = vmap(values, in_dims=(0, 0, None, None), out_dims=1, randomness="different")
    return torch.no_grad()(layers_that_vmap_knows()(evaluate))


@contextmanager
def layers_that_vmap_knows() -> Iterator[None]:
    """Inside, attention is computed by its unfused implementation: `torch.func` has no rules for the fused ones."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class UpdateCache:
    """Compiled updates, one per configuration and shape of the tensors, for all ensembles that share the cache."""

    def __init__(self, compile_function: Callable[..., Callable[..., None] | None] = compile_in_place):
        self.compile_function = compile_function
        self._updates: dict[tuple, Callable[..., None] | None] = {}

    def update(self, ensemble: Ensemble, inputs: Sequence[Tensor]) -> Callable[..., None] | None:
        """The compiled update of the ensemble's state; None where it cannot be compiled.

        `inputs` are batches, or all examples and the indices of the batches.
        """
        configuration = (ensemble.workload, ensemble.optimizer, ensemble.varied)
        shapes = ((tensor.shape, tensor.dtype, tensor.device) for tensor in (*ensemble.state, *inputs))
        key = (configuration, *shapes)
        if key not in self._updates:
            update = update_function(*configuration)
            function = update if len(inputs) == 2 else gather_then(update)
            self._updates[key] = self.compile_function(function, ensemble.state, inputs)
        return self._updates[key]


PROCESS_CACHE = UpdateCache()
"""The default cache of `Ensemble.compile`."""
