"""Any workload file: measured, or refused in one line. Fields and functions are right, odd or wrong, at random."""

import itertools
import random
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.fuzz.oracle import call_and_judge

HEADER = """
{future}
import sys
import numpy as np
import torch
from torch import nn
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.workloads import Data, Workload
{top}
def raises(error):
    raise error

class Odd:
    __hash__ = None
    def __eq__(self, other): return True
    def __call__(self, *arguments): return torch.zeros(len(arguments[0]) if arguments else 1)

class BadMessage(Exception):
    def __str__(self): raise ValueError("no message")

x = torch.arange(96.0).view(24, 4).sin()
y = torch.arange(24) % 3
"""
ERRORS = (
    "ValueError('first\\nlast')",
    "KeyboardInterrupt()",
    "SystemExit(3)",
    "SystemExit()",
    "GeneratorExit()",
    "StopIteration()",
    "RecursionError()",
    "MemoryError()",
    "BadMessage()",
    "UnicodeDecodeError('utf-8', b'', 0, 1, 'x')",
    "OSError(28, 'No space left on device', 'file')",
    "EOFError()",
    "BaseException('bare')",
)
NUMBERS = (
    *("1", "2", "0", "-1", "1.5", "True", "None", "'4'", "float('nan')", "float('inf')", "10**30", "np.int64(4)"),
    *("np.float32(0.1)", "torch.tensor(4)", "torch.tensor([4])", "[]", "{}", "1e-320", "4j", "object()", "Odd()"),
)
SEQUENCES = (
    "[1, 4, 16]",
    "(4, 1)",
    "()",
    "range(1, 5)",
    "np.array([1, 4])",
    "'14'",
    "{1, 4}",
    "(1, 1)",
    "(1, 4, 99)",
)
TEXTS = (
    "'a-b.c'",
    "'a/b'",
    "''",
    "'..'",
    "'$x$'",
    "'<b>'",
    "'a\\nb'",
    "'é'",
    "7",
    "None",
    "b'a'",
    "'x' * 99",
    "'con'",
)
LOADS = (
    "lambda: Data(x, y, x, y)",
    "lambda: Data(x[:0], y[:0], x, y)",
    "lambda: Data(x, y[:5], x, y)",
    "lambda: Data(x, y.double(), x, y)",
    "lambda: Data(x, y.bool(), x, y.bool())",
    "lambda: Data(x.bfloat16(), y, x.bfloat16(), y)",
    "lambda: Data(x.half(), y, x.half(), y)",
    "lambda: Data(x.to(torch.complex64), y, x, y)",
    "lambda: Data(x.to_sparse(), y, x.to_sparse(), y)",
    "lambda: Data(torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), y, x, y)",
    "lambda: Data(x.numpy(), y.numpy(), x, y)",
    "lambda: Data(x.to('meta'), y, x, y)",
    "lambda: Data(x * float('nan'), y, x, y)",
    "lambda: Data(x.requires_grad_(), y, x, y)",
    "lambda: Data(x, y - 1, x, y)",
    "lambda: Data(x, y, x[:, :2], y)",
    "lambda: Data(x[0, 0], y, x, y)",
    "lambda: (x, y, x, y)",
    "lambda: None",
    "lambda: Data(torch.rand(24, 4), y, x, y)",
    "lambda one: one",
    "Odd()",
    "7",
)
MODELS = (
    "lambda: nn.Linear(4, 3)",
    "lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout())",
    "lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))",
    "lambda: nn.Linear(4, 2)",
    "lambda: nn.Linear(5, 3)",
    "lambda: nn.Linear(4, 3).half()",
    "lambda: nn.Linear(4, 3).double()",
    "lambda: nn.Linear(4, 3, device='meta')",
    "lambda: nn.Identity()",
    "lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))",
    "lambda: nn.Linear(4, 3).requires_grad_(False)",
    "lambda: nn.LazyLinear(3)",
    "lambda: nn.Embedding(3, 3, sparse=True)",
    "lambda: torch.jit.script(nn.Linear(4, 3))",
    "lambda: torch.compile(nn.Linear(4, 3))",
    "lambda: x",
    "nn.Linear",
    "(lambda model: lambda: model)(nn.Linear(4, 3))",
    "Odd()",
)
FUNCTIONS = (
    "lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, reduction='none')",
    "lambda outputs, targets: nn.functional.cross_entropy(outputs, targets)",
    "lambda outputs, targets: (outputs.argmax(1) == targets)",
    "lambda outputs, targets: outputs.sum(1) - 5",
    "lambda outputs, targets: outputs.mul_(2).sum(1)",
    "lambda outputs, targets: torch.rand(len(targets)) * outputs.sum(1)",
    "lambda outputs, targets: outputs.sum(1).detach()",
    "lambda outputs, targets: outputs.sum(1) / (targets - 1)",
    "lambda outputs, targets: outputs.sum(1).tolist()",
    "lambda outputs, targets: outputs.logsumexp(1) * float('inf')",
    "lambda outputs: outputs",
    "nn.CrossEntropyLoss()",
    "nn.CrossEntropyLoss(reduction='none')",
    "Odd()",
    "None",
)
OPTIMIZERS = (
    *("adamw(weight_decay=0.1)", "adam(betas=(0.9, 2))", "sgd(momentum=-1)", "sgd(rate=1)", "torch.optim.SGD"),
    *("Optimizer.of(torch.optim.RMSprop)", "Optimizer.of(int)", "Optimizer.of(torch.optim.LBFGS)", "'sgd'", "None"),
)
RIGHT = {
    "name": "'made_up'",
    "about": "'Made up.'",
    "load": LOADS[0],
    "model": MODELS[0],
    "batch_sizes": "(1, 4, 16)",
    "small": "1",
    "large": "16",
    "learning_rate": "0.1",
    "learning_rates": "(0.1,)",
    "epochs": "2",
    "target_loss": "0.9",
    "max_updates": "50",
}
RAISING = tuple(f"lambda *_: raises({error})" for error in ERRORS)
CHOICES = {
    "name": TEXTS,
    "about": TEXTS,
    "load": LOADS + RAISING,
    "model": MODELS + RAISING,
    "loss": FUNCTIONS + RAISING,
    "score": FUNCTIONS + RAISING,
    "score_name": TEXTS,
    "optimizer": OPTIMIZERS,
    "claims": ("()", "('gradient',)", "['optimization']", "'gradient'", "('momentum',)", "7"),
    "published": ("None", "{}", "7"),
    "colour": ("1",),
    **dict.fromkeys(("batch_sizes", "learning_rates", "training_batch_sizes"), SEQUENCES),
    **dict.fromkeys(("small", "large", "learning_rate", "epochs", "target_loss", "max_updates"), NUMBERS),
    **dict.fromkeys(("fitted_loss", "resplit", "base_seed"), NUMBERS),
}
TOPS = ("",) * 60 + tuple(f"raise {error}" for error in ERRORS if "BadMessage" not in error) + ("def (", "\tx")
FOOTERS = ("",) * 20 + ("workload = None", "del workload", "workload = [workload]", "workload.name = 'b'", "exit()")
FUTURES = ("",) * 20 + ("from __future__ import annotations", "# -*- coding: nonsense -*-", "\ufeff")
NUMBER = itertools.count()


def made_up(draw: random.Random) -> str:
    """The text of a file with up to two fields that are not `RIGHT`."""
    fields = dict(RIGHT)
    for name in draw.sample(sorted(CHOICES), draw.choice((0, 1, 1, 1, 2))):
        fields[name] = draw.choice((*CHOICES[name], ""))
    values = "\n".join(f"    {name}={value}," for name, value in fields.items() if value)
    header = HEADER.format(future=draw.choice(FUTURES), top=draw.choice(TOPS))
    return f"{header}\nworkload = Workload(\n{values}\n)\n{draw.choice(FOOTERS)}\n"


@given(st.integers(0, 2**32))
@examples(120)
def test_any_workload_file_is_planned_or_refused_in_one_line(seed):
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{draw.choice(('made_up', 'a b', '1', 'class', 'torch', 'ö', 'a.b'))}{next(NUMBER)}.py"
        path.write_text(made_up(draw))
        call_and_judge("run", path, "--dry-run", "--preset", "quick", "--results", Path(folder) / "results")
