"""Compilation and graph capture of functions that change some of their tensors in place."""

import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from suite import devices

VECTOR_FLAGS = [
    "-mavx512f",
    "-mavx512dq",
    "-mavx512vl",
    "-mavx512bw",
    "-mavx512vnni",
    "-mamx-tile",
    "-mamx-bf16",
    "-mamx-int8",
]


def compiler() -> str:
    """The command of the C++ compiler."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def no_compiler() -> str | None:
    """The reason why nothing can be compiled on this machine, or None when it can."""
    return None if sys.platform == "win32" or shutil.which(compiler()) else f"no C++ compiler {compiler()}"


@cache
def knows_vector_instructions() -> bool:
    """Whether the compiler accepts every flag that inductor may choose for an x86 processor.

    Inductor itself finds out by compiling and running programs, which takes 6 s.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    command = [compiler(), *VECTOR_FLAGS, "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def compile_in_place(
    function: Callable[..., None], state: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Callable[..., None] | None:
    """Compile `function(*state, *inputs)`, which changes `state` in place, for tensors of these shapes and types.

    Return None, with a warning, where the compilation fails. The tensors passed here keep their values.

    The function is traced with make_fx and compiled by inductor, because the guards of torch.compile cost more at
    each call (30 to 45 us) than the update of a whole ensemble of small networks. The shapes are fixed, and inductor
    checks them. Inductor uses its cache on disk, which takes a tenth of the time, only where the tracing context has
    a shape environment.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    if no_compiler():
        return None
    options = {"compile_threads": 1}  # no pool of processes beside the trainings
    if knows_vector_instructions():
        options["cpp.vec_isa_ok"] = True
    copies = [*(tensor.clone() for tensor in state), *inputs]
    context = TracingContext(FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()))
    try:
        with config.patch(options), tracing(context):
            return torch._inductor.compile(make_fx(function)(*copies), copies)
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [""]
        warnings.warn(f"not compiled ({type(error).__name__}: {reason[0]}): trains slower", stacklevel=2)
        return None


def capture(
    function: Callable[..., None], state: Sequence[Tensor], data: Sequence[Tensor], indices: Tensor
) -> Callable[[Tensor], None]:
    """Capture `function(*state, *data, indices)` as a graph, and return it as a function of the indices.

    It changes `state` in place. The updates during the capture are undone.
    """
    fixed, before = indices.clone(), [tensor.clone() for tensor in state]
    replay_graph = devices.of(indices).capture(lambda: function(*state, *data, fixed))
    for tensor, value in zip(state, before, strict=True):
        tensor.copy_(value)

    def replay(indices: Tensor, kept=(state, data)) -> None:
        """Run the graph. `kept` keeps the tensors alive that the graph reads and writes."""
        fixed.copy_(indices)
        replay_graph()

    return replay
