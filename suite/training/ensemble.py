"""Independent replicas of one model, updated in lockstep by one call.

An update of a small network from a small batch is nearly all overhead; here many replicas share it. The replicas'
parameters are stacked, `torch.func` takes each replica's gradient from its own batch, and inductor, the compiler
behind `torch.compile`, turns gradient and step into a few kernels. Its reference implementation is
`suite.training.plain`.
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
from suite.training.compilation import captured, compiled
from suite.workloads import Workload

EVALUATED_VALUES = 2**20
"""Input values, over all replicas, that one pass of an evaluation takes."""
GATHERED_VALUES = 2**16
"""Input values of a batch, over all replicas, from which a compiled update on a CPU has them gathered beforehand,
into the same memory each time: row by row, which is several times faster than value by value, and without asking the
system for fresh pages."""


class Ensemble:
    """`replicas` of `workload`, each with its own initial parameters and learning rate.

    `parameters` and `buffers` map names to tensors [R, ...]: views of what the next update changes in place, as it
    takes its rates from `learning_rates` [R]. A replica that diverges does not disturb the others.
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
        """With the workload's optimizer unless another with a stacked form is given; `varied` gives each replica a
        value of its own of some of its hyperparameters."""
        models = [workload.initial_model(replica).to(device) for replica in replicas]
        parameters, buffers = stack_module_state(models)
        self.parameters = {name: stacked.detach() for name, stacked in parameters.items()}
        self.buffers = {name: stacked.detach() for name, stacked in buffers.items()}
        self.workload, self.optimizer, self.size = workload, optimizer or workload.optimizer, len(models)
        self.varied = tuple(varied or ())
        dtype = next(iter(self.parameters.values())).dtype
        rates, *own = (
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
        self.state = [*self.parameters.values(), *self.buffers.values(), *states, rates, *own, updates]
        self._fast: dict[int, Callable[[Tensor], None]] = {}

    def update(self, inputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        """One update of every replica: of replica r from the examples `indices[r]` (int64 [R, B]) of `inputs`
        [M, ...] and `targets` [M, ...]."""
        if fast := self._fast.get(indices.shape[1]):
            fast(indices.contiguous())
        else:
            update = update_function(self.workload, self.optimizer, self.varied)
            update(*self.state, inputs[indices], targets[indices])

    def compile(self, inputs: Tensor, targets: Tensor, batch_size: int) -> None:
        """Compile the update from batches of `batch_size` of these `inputs` and `targets`, from now on the only
        ones that such an update may take, and capture it as a graph where the device can. Nothing changes without a
        compiler."""
        indices = torch.zeros(self.size, batch_size, dtype=torch.int64, device=inputs.device)
        examples = (inputs, targets)
        gathered = Gathered(examples, indices) if worth_gathering(inputs, indices) else None
        given = gathered(indices) if gathered else (*examples, indices)
        with devices.random_state_restored():  # compiling and capturing run updates, which may draw
            function = _compiled_update(self, given)
            if function is None:
                return
            if devices.of(inputs).captures:
                self._fast[batch_size] = captured(function, self.state, examples, indices)
            elif gathered:
                self._fast[batch_size] = lambda indices: function(*self.state, *gathered(indices))
            else:
                self._fast[batch_size] = lambda indices: function(*self.state, *examples, indices)

    def compiled_for(self, batch_size: int) -> bool:
        return batch_size in self._fast

    def evaluate(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and mean score of every replica over `inputs` [N, ...], each [R] in the device's widest
        float, in evaluation mode."""
        return mean_over(self.losses_and_scores(inputs, targets))

    def losses_and_scores(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Loss and score of every replica on every example, [2, R, N] in the device's widest float, in evaluation
        mode."""
        function = evaluation_function(self.workload)
        chunk = max(1, EVALUATED_VALUES // (self.size * math.prod(inputs.shape[1:])))
        parts = zip(inputs.split(chunk), targets.split(chunk), strict=True)
        return torch.cat([function(self.parameters, self.buffers, *part) for part in parts], dim=2)


class Gathered:
    """The batches of all replicas, found by their indices [R, B]: inputs and targets [R, B, ...] of `examples`,
    always in the same memory."""

    def __init__(self, examples: Sequence[Tensor], indices: Tensor):
        self.examples = examples
        self.batches = [tensor.new_empty(*indices.shape, *tensor.shape[1:]) for tensor in examples]

    def __call__(self, indices: Tensor) -> list[Tensor]:
        for tensor, batch in zip(self.examples, self.batches, strict=True):
            torch.index_select(tensor, 0, indices.flatten(), out=batch.flatten(0, 1))
        return self.batches


def worth_gathering(inputs: Tensor, indices: Tensor) -> bool:
    """Whether a compiled update has its batches gathered beforehand. An accelerator gathers them itself."""
    accelerated = devices.of(inputs).is_accelerator
    return not accelerated and indices.numel() * math.prod(inputs.shape[1:]) >= GATHERED_VALUES


def mean_over(values: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Means [R] of both `values` [2, R, N]: over all examples, or of replica r over `indices[r]` ([R, M])."""
    chosen = values if indices is None else values.gather(2, indices.expand(2, -1, -1))
    loss, score = chosen.mean(dim=2)
    return loss, score


@cache
def trained_names(workload: Workload) -> tuple[str, ...]:
    """Names of the parameters that are trained."""
    model = workload.initial_model(0)
    return tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)


@cache
def state_counts(workload: Workload, optimizer: Optimizer, varied: tuple[str, ...] = ()) -> dict[str, int]:
    """By the name of each trained parameter, how many tensors the optimizer keeps for it. A hyperparameter that is
    `varied` counts as one that is not zero."""
    return {
        name: optimizer.form.states(optimizer.of_parameter(name)[0] | dict.fromkeys(varied, 1.0))
        for name in trained_names(workload)
    }


@cache
def update_function(workload: Workload, optimizer: Optimizer, varied: tuple[str, ...] = ()) -> Callable[..., None]:
    """The update as a function of the ensemble's state, which it changes in place, and of batches: inputs and targets
    [R, B, ...]."""
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
        rates, own = state[-1 - len(varied)], dict(zip(varied, state[len(state) - len(varied) :], strict=True))
        parameters = dict(zip(names, state, strict=False))
        buffers = dict(zip(buffer_names, state[len(names) :], strict=False))
        kept = iter(state[len(names) + len(buffers) :])
        moving = {name: parameters.pop(name) for name in counts}
        with layers_that_vmap_knows():
            gradients, moved_buffers = gradients_of(moving, parameters, buffers, inputs, targets)
        updates.add_(1)
        for name, parameter in moving.items():
            shared, lr_scale = settings[name]
            each = (-1, *[1] * (parameter.dim() - 1))
            rate = rates.view(each) if lr_scale == 1 else lr_scale * rates.view(each)
            hyperparameters = shared | {own_name: values.view(each) for own_name, values in own.items()}
            state_of = [next(kept) for _ in range(counts[name])]
            form.step(parameter, gradients[name], state_of, rate, hyperparameters, updates)
        for name, buffer in buffers.items():
            buffer.copy_(moved_buffers[name])

    return update


def gathering(update: Callable[..., None]) -> Callable[..., None]:
    """The same as a function of all examples and of indices [R, B] into them."""

    def gather_and_update(*tensors: Tensor) -> None:
        *state, inputs, targets, indices = tensors
        update(*state, inputs[indices], targets[indices])

    return gather_and_update


@cache
def evaluation_function(workload: Workload) -> Callable[..., Tensor]:
    """Losses and scores [2, R, N] of parameters and buffers [R, ...] on inputs and targets [N, ...]."""
    model = workload.initial_model(0).eval()

    def values(parameters, buffers, inputs, targets):
        outputs = functional_call(model, (parameters, buffers), (inputs,))
        wide = devices.of(outputs).widest_float
        return torch.stack([workload.loss(outputs, targets).to(wide), workload.score(outputs, targets).to(wide)])

    evaluate = vmap(values, in_dims=(0, 0, None, None), out_dims=1, randomness="different")
    return torch.no_grad()(layers_that_vmap_knows()(evaluate))


@contextmanager
def layers_that_vmap_knows() -> Iterator[None]:
    """Inside, attention is computed step by step: `torch.func` has no rules for its fused forms."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


_COMPILED: dict[tuple, Callable[..., None] | None] = {}


def _compiled_update(ensemble: Ensemble, given: Sequence[Tensor]) -> Callable[..., None] | None:
    """The update of the ensemble's state, compiled for tensors like these; once in a process, whatever ensemble it is
    for. `given` are batches, or all examples and indices into them."""
    how = (ensemble.workload, ensemble.optimizer, ensemble.varied)
    key = (how, *((tensor.shape, tensor.dtype, tensor.device) for tensor in (*ensemble.state, *given)))
    if key not in _COMPILED:
        update = update_function(*how)
        _COMPILED[key] = compiled(update if len(given) == 2 else gathering(update), ensemble.state, given)
    return _COMPILED[key]
