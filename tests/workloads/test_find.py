import pytest
import torch

from suite.errors import UserError
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING, measure
from suite.optimizers import Optimizer
from suite.training.budgets import EqualEpochs
from suite.training.engine import why_not_ensemble
from suite.training.protocol import Protocol
from suite.workloads import find, names
from suite.workloads.check import load_checked
from tests.command import WORKLOAD


def test_every_workload_of_the_suite_is_found_by_its_name():
    assert "digits" in names()
    assert [find(name).name for name in names()] == names()


def test_an_unknown_name_is_answered_with_the_known_names():
    with pytest.raises(UserError, match=r"no workload 'nope': choose from .*digits.*path of a Python file"):
        find("nope")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no workload file"),
        ("import nonsense_that_is_not_there", "does not run: ModuleNotFoundError"),
        ("def broken(:", "does not run: SyntaxError"),
        ("1 / 0", "does not run: ZeroDivisionError"),
        ("workloads = 3", "holds no workload"),
        ("workload = 3", "holds no workload"),
        ("from suite.workloads.digits import workload", "the name 'digits' is taken"),
        (
            "from suite.workloads import Workload\nworkload = Workload('x')",
            "does not run: Workload: about is missing",
        ),
        (
            "from suite.optimizers import sgd\nsgd(momentum=1.0)",
            "mine.py: .*momentum 1.0 the movement grows without end: give less",
        ),
        (
            "from suite.optimizers import sgd\nsgd(nesterov=True)",
            "mine.py: optimizer SGD: Nesterov momentum requires",
        ),
        (
            "from suite.optimizers import adam\nadam(decay=0.1)",
            "optimizer Adam: got an unexpected keyword argument 'decay'",
        ),
        ("from suite.optimizers import adamw\nadamw(lr=0.1)", "leave out lr; the workload's learning_rate is used"),
    ],
)
def test_a_file_without_a_workload_is_reported_in_one_line(tmp_path, content, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        find(str(path))
    assert "\n" not in str(error.value)


def write(path, optimizer: str, before: str = "", after: str = "") -> str:
    """Write a workload file with the `optimizer`, a Python expression, and lines `before` and `after` its imports."""
    content = WORKLOAD.format(name="mine", epochs=3)
    changed = content.replace("workload = Workload(", f"{after}\n\nworkload = Workload(\n    optimizer={optimizer},")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before}\n{changed}")
    return str(path)


def test_the_name_of_an_optimizer_is_rejected_with_a_correct_example(tmp_path):
    with pytest.raises(UserError) as error:
        find(write(tmp_path / "mine.py", '"adam"'))
    expected = "Workload: optimizer is 'adam': give one of suite.optimizers, such as adamw(weight_decay=0.1) or "
    assert str(error.value) == f"{tmp_path / 'mine.py'} does not run: {expected}Optimizer.of(torch.optim.RMSprop)"


OWN_OPTIMIZER = """
from suite.optimizers import Optimizer

class SignDescent(torch.optim.Optimizer):
    def __init__(self, params, lr, factor=1.0):
        super().__init__(params, {"lr": lr, "factor": factor})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * group["factor"] * parameter.grad.sign()
"""


def test_a_file_may_define_its_own_optimizer(tmp_path):
    workload = find(write(tmp_path / "mine.py", "Optimizer.of(SignDescent, factor=0.5)", after=OWN_OPTIMIZER))
    data, optimizer = load_checked(workload), workload.optimizer
    assert (optimizer.name, str(optimizer), optimizer.form) == ("SignDescent", "SignDescent, factor 0.5", None)
    assert Optimizer.from_key_fields(optimizer.key_fields()).key_fields() == optimizer.key_fields()
    assert "SignDescent" in why_not_ensemble(workload, data)
    model = workload.initial_model(0)
    torch_optimizer = optimizer.make(model, 0.01)
    workload.loss(model(data.train_inputs), data.train_targets).mean().backward()
    before, gradient = model[0].weight.detach().clone(), model[0].weight.grad.clone()
    torch_optimizer.step()
    torch.testing.assert_close(model[0].weight.detach(), before - 0.005 * gradient.sign())
    protocol = Protocol.of(workload, EqualEpochs(3), learning_rate=0.02)
    evaluations = measure(workload, data, Cell(TRAINING, "mine", "cpu", 4, 2, protocol))
    losses = evaluations.groupby("seed")["train_loss"]
    assert (losses.last() < losses.first()).all()


def test_two_files_with_the_same_name_have_their_own_optimizers(tmp_path):
    doubled = OWN_OPTIMIZER.replace("sign()", "sign().mul(2)")
    files = [
        write(tmp_path / folder / "mine.py", "Optimizer.of(SignDescent)", after=definition)
        for folder, definition in (("first", OWN_OPTIMIZER), ("second", doubled))
    ]
    steps = []
    for workload in map(find, files):
        model = torch.nn.Linear(1, 1, bias=False)
        before = model.weight.item()
        model.weight.grad = torch.ones(1, 1)
        workload.optimizer.make(model, 0.1).step()
        steps.append(before - model.weight.item())
    assert steps == pytest.approx([0.1, 0.2])


DATACLASS = """
from dataclasses import KW_ONLY, dataclass

from suite.optimizers import sgd

@dataclass
class Sizes:
    _: KW_ONLY
    hidden: int = 8
"""


def test_a_file_may_postpone_annotations_and_define_a_dataclass(tmp_path):
    """dataclasses looks up the module of a class whose annotations are strings."""
    postponed = "from __future__ import annotations"
    workload = find(write(tmp_path / "mine.py", "sgd(momentum=0.9)", before=postponed, after=DATACLASS))
    assert str(workload.optimizer) == "SGD, momentum 0.9"
    load_checked(workload)
