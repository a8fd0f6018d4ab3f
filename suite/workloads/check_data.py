"""The check of a workload's examples."""

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from suite.workloads.calls import refusal
from suite.workloads.data import Data
from suite.workloads.workload import Workload

SPLITS = ("train", "test")


def check_data(workload: Workload, data: Data) -> None:
    if not isinstance(data, Data):
        raise refusal(workload, f"load() returns {type(data).__name__}: return suite.workloads.Data(...)")
    for split in SPLITS:
        inputs, targets = getattr(data, f"{split}_inputs"), getattr(data, f"{split}_targets")
        for name, tensor in ((f"{split}_inputs", inputs), (f"{split}_targets", targets)):
            _check_tensor(workload, name, tensor)
        if len(inputs) != len(targets):
            raise refusal(
                workload,
                f"{split}_inputs has {len(inputs)} examples and {split}_targets {len(targets)}: give each input one "
                "target",
            )
    for kind in ("inputs", "targets"):
        train, test = getattr(data, f"train_{kind}"), getattr(data, f"test_{kind}")
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise refusal(
                workload,
                f"train_{kind} are {kind_of(train)}, test_{kind} {kind_of(test)}: an example must look the same in "
                "both",
            )


def kind_of(tensor: Tensor) -> str:
    shape = ", ".join(map(str, ("N", *tensor.shape[1:])))
    return f"{str(tensor.dtype).removeprefix('torch.')} [{shape}]"


def _check_tensor(workload: Workload, name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise refusal(workload, f"{name} is a {type(tensor).__name__}: make it a torch.Tensor")
    if unsupported := _unsupported(tensor):
        raise refusal(workload, f"{name} {unsupported}")
    if tensor.device.type != "cpu":
        raise refusal(workload, f"{name} lies on {tensor.device}: leave data on the CPU, backends move it")
    if tensor.dim() == 0 or len(tensor) == 0:
        raise refusal(workload, f"{name} is empty: each split needs an example")
    if tensor.requires_grad:
        raise refusal(workload, f"{name} requires a gradient: detach it")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).flatten(start_dim=1 if tensor.dim() > 1 else 0).any(-1).sum())
        raise refusal(
            workload,
            f"{name} has values that are not finite (NaN or infinite), in {bad} examples: leave these out or fill "
            "them in",
        )


def _unsupported(tensor: Tensor) -> str | None:
    """What kind of tensor cannot be split into batches, and what to do; None for any other."""
    if is_lazy(tensor):
        return "has no values yet (an uninitialized tensor): fill it"
    if tensor.is_nested:
        return "is a nested tensor: pad it, torch.nested.to_padded_tensor()"
    if tensor.layout != torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')}): make it dense, to_dense()"
    if tensor.is_quantized:
        return "is quantized: dequantize() it"
    if tensor.is_complex():
        return f"is {str(tensor.dtype).removeprefix('torch.')}: make it real, torch.view_as_real()"
    return None
