"""Compiling a function of tensors that changes some of them in place, and capturing it as a graph."""

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

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes beside the trainings


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
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def no_compiler() -> str | None:
    """Why nothing can be compiled here, or None when it can."""
    return None if sys.platform == "win32" or shutil.which(compiler()) else f"no C++ compiler {compiler()}"


@cache
def knows_vector_instructions() -> bool:
    """Whether the compiler takes every flag that inductor may choose for an x86 processor. It would otherwise find
    out by compiling and running programs, for 6 s."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    command = [compiler(), *VECTOR_FLAGS, "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def compiled(
    function: Callable[..., None], state: Sequence[Tensor], given: Sequence[Tensor]
) -> Callable[..., None] | None:
    """`function(*state, *given)`, which changes `state` in place, compiled for tensors like these, which stay as they
    are; None where it cannot be.

    Traced with make_fx and handed to inductor. Not through torch.compile, whose guards cost more at each call
    (30 to 45 us) than the update of a whole ensemble of small networks; the shapes here are fixed. Inductor checks
    them. It looks into its cache only where a tracing context has a shape environment: what another process compiled
    is then there in a tenth of the time.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    if no_compiler():
        return None
    if knows_vector_instructions():
        config.cpp.vec_isa_ok = True
    copies = [*(tensor.clone() for tensor in state), *given]
    context = TracingContext(FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()))
    try:
        with tracing(context):
            return torch._inductor.compile(make_fx(function)(*copies), copies)
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [""]
        warnings.warn(f"not compiled ({type(error).__name__}: {reason[0]}): trains slower", stacklevel=2)
        return None


def captured(
    function: Callable[..., None], state: Sequence[Tensor], data: Sequence[Tensor], indices: Tensor
) -> Callable[[Tensor], None]:
    """Capture `function(*state, *data, indices)` as a graph on its device: a function of the indices alone, which
    changes `state` in place. The updates that capturing takes are undone."""
    fixed, before = indices.clone(), [tensor.clone() for tensor in state]
    replay_graph = devices.of(indices).capture(lambda: function(*state, *data, fixed))
    for tensor, value in zip(state, before, strict=True):
        tensor.copy_(value)

    def replay(indices: Tensor, kept=(state, data)) -> None:
        """`kept` keeps alive what the graph reads and writes."""
        fixed.copy_(indices)
        replay_graph()

    return replay
