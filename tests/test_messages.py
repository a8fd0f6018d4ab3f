"""Every line by which a user is refused or warned, each with a way to get it.

The templates are read from the code: a message without a trigger fails here, and so does a trigger that gives none.
"""

import ast
import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import suite
from suite import cli
from suite.backends import ACCELERATORS
from suite.errors import UserError
from suite.experiments.cell import Cell, Measurement
from suite.instruments import LossSurface, largest_eigenvalue
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.runs.guardian import guarded
from suite.runs.store import Results
from suite.runs.worker import _check_examples, measure
from suite.timing import time_cells
from suite.timing.timed import UPDATE_TIME
from suite.training import compilation
from suite.workloads import cifar10, find
from suite.workloads.check import load_checked
from suite.workloads.workload import cross_entropy
from tests.command import call_here, write_workload
from tests.conftest import blobs, tiny
from tests.stored import rewrite_manifest, tamper
from tests.workloads.test_check import BROKEN, with_data

ROOT = Path(suite.__file__).parent
RAISING = {"UserError", "refusal", "Damaged", "_damaged", "_warn", "warn"}
"""Calls whose constant arguments are words for a user."""
VALUES = ("workloads/workload.py", "workloads/fields.py", "runs/manifest.py", "instruments/sharpness.py")
"""Files in which a ValueError is worded for a user."""
WITH_A_SERVER = {
    "{} is not the canonical file: results carry another fingerprint",
    "{} is not the canonical {}: try again, or put the file at {}",
    "{} was not unpacked from the official archive by this suite: results carry the fingerprint of what it holds",
    "{} is not the official archive: try again, or put its files into {}",
    "cannot {} {} ({}): put the files there yourself, or set SUITE_DATA_HOME to a folder that has them",
}
"""Triggered in tests/workloads/test_data_home.py."""


def template_of(node: ast.expr) -> str | None:
    """The words of a string, with `{}` for what is filled in; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def templates() -> dict[str, str]:
    """Every message of the code, and the file it is in."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        place = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in RAISING or (name == "ValueError" and place in VALUES):
                    words = [template for argument in node.args if (template := template_of(argument))]
                    found |= {template: place for template in words if re.search(r"[a-z]{4}", template)}
    return found


def pattern_of(template: str) -> re.Pattern:
    return re.compile(".*".join(map(re.escape, template.split("{}"))), re.DOTALL)


class Situation:
    """What a trigger needs: an empty folder, a workload file, a copy of a results folder, and monkeypatch."""

    def __init__(self, folder: Path, workload: Path, copied: Path, patch: pytest.MonkeyPatch):
        self.folder, self.workload, self.copied, self.patch = folder, workload, copied, patch

    @property
    def results(self) -> Results:
        return Results(self.copied)

    @property
    def cell(self) -> Path:
        return min(self.results.cells.glob("*.parquet"))

    def call(self, *arguments) -> str:
        return call_here(*arguments, folder=self.folder).stderr

    def report(self) -> str:
        return self.call("report", "--results", self.copied)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def changed(self, **fields) -> Path:
        """The workload file with other `fields`, given as text."""
        text = self.workload.read_text()
        for name, value in fields.items():
            text = re.sub(rf"(    {name}=)[^\n]*,\n", "", text)
            text = text.replace("workload = Workload(\n", f"workload = Workload(\n    {name}={value},\n")
        return self.write(f"changed_{len(fields)}.py", text)


def optimizer(make: Callable[[], object]) -> Callable:
    return lambda _: make()


def wrong(**fields) -> Callable:
    """A workload that contradicts itself."""
    return lambda _: tiny(**fields)


def refused(**fields) -> Callable:
    """A workload that the check refuses."""
    return lambda _: load_checked(tiny(**fields))


def run(*arguments) -> Callable:
    return lambda at: at.call("run", *arguments)


def local_class() -> type:
    class Mine(torch.optim.SGD):
        pass

    return Mine


def infinite_model() -> nn.Module:
    model = nn.Linear(4, 3)
    model.weight.data.fill_(float("nan"))
    return model


class MadeOnTheCpu(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.layer(inputs) if inputs.device.type == "cpu" else torch.zeros(len(inputs), 3)


def of_weight_norm(at: Situation) -> float:
    data, model = blobs(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return largest_eigenvalue(LossSurface(model, cross_entropy, data.train_inputs, data.train_targets))


def without_room(at: Situation) -> None:
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    at.patch.setattr("tempfile.TemporaryDirectory", full)
    guarded().__enter__()


def with_a_full_disk(at: Situation) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    measure(str(at.workload), Cell(Measurement("full", 1, {}, full), "tiny", "cpu", 4, 1))


def with_a_file_changed(change: Callable[[Situation], object]) -> Callable:
    def trigger(at: Situation) -> str:
        change(at)
        return at.report()

    return trigger


def link_to_nothing(at: Situation) -> None:
    cell = at.cell
    cell.unlink()
    cell.symlink_to("nowhere")


def unreadable(at: Situation) -> str:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    at.patch.setattr(Path, "read_bytes", refuse)
    return at.report()


def with_a_disk_that_asv_fills(_) -> pd.DataFrame:
    answer = {"samples_s": None, "skipped": False, "reason": "OSError: [Errno 28] No space left on device"}
    return time_cells._rows(Cell(UPDATE_TIME, "tiny", "cpu", 4, 2), answer, [], 1)


def with_metadata(**values) -> Callable:
    return with_a_file_changed(lambda at: tamper(at.cell, lambda table, metadata: (table, metadata | values)))


def another_cell(at: Situation) -> str:
    last = max(at.results.cells.glob("*.parquet"))
    at.cell.write_bytes(last.read_bytes())
    return at.report()


def damaged_for_a_run(at: Situation) -> str:
    at.cell.write_bytes(b"")
    return at.call(
        "run",
        at.workload,
        "--preset",
        "quick",
        "--claim",
        "gradient",
        "--claim",
        "optimization",
        "--claim",
        "generalization",
        "--claim",
        "sharpness",
        "--workers",
        1,
        "--results",
        at.copied,
    )


def with_another_key(at: Situation) -> str:
    text = at.results.manifest_file.read_text()
    at.results.manifest_file.write_text(text.replace('{\n "checksum"', '{\n "workloads": {},\n "checksum"', 1))
    return at.report()


def with_another_fact(at: Situation) -> str:
    content = json.loads(at.results.manifest_file.read_text())
    content["workloads"]["tiny"]["facts"]["target_loss"] = 0.1
    at.results.manifest_file.write_text(json.dumps(content))
    return at.report()


def with_another_name(at: Situation) -> str:
    rewrite_manifest(at.results, lambda content: content["workloads"]["tiny"]["facts"].update(name="another"))
    return at.report()


def beside_another(at: Situation) -> str:
    with Results(at.copied).locked():
        return at.call("run", at.workload, "--claim", "gradient", "--results", at.copied)


def without_asv(at: Situation, **patches) -> list:
    cell = Cell(UPDATE_TIME, "tiny", "cpu", 4, 2, optimizer=sgd())
    return list(time_cells.time_groups(str(at.workload), [[cell]], 1, at.folder))


def without_benchmarks(at: Situation) -> list:
    at.patch.setattr(time_cells, "ROOT", at.folder)
    return without_asv(at)


def with_a_broken_asv(at: Situation) -> list:
    at.patch.setattr("sys.executable", "false")
    return without_asv(at)


def not_compiled(_) -> object:
    def branches(state):
        if state.sum() > 0:
            return state
        raise ValueError("not for tracing")

    return compilation.compile_in_place(branches, [torch.ones(2)], [])


def neighbours(at: Situation) -> None:
    for folder in ("first", "second"):
        at.write(f"{folder}/neighbour_of_two.py", "")
        text = f"import neighbour_of_two\n{at.workload.read_text()}"
        find(str(at.write(f"{folder}/mine.py", text)))


def unavailable() -> str:
    return next(backend.name for backend in ACCELERATORS if backend.unavailable())


def truncated(at: Situation) -> None:
    at.write("short.bin", "short")
    cifar10.records(at.folder / "short.bin")


TRIGGERS: dict[str, Callable] = {
    **{name: refused(**changes) for name, (changes, _) in BROKEN.items()},
    "data elsewhere": refused(**with_data(train_inputs=blobs().train_inputs.to("meta"))),
    "a model elsewhere": refused(model=lambda: nn.Linear(4, 3, device="meta")),
    "a model that starts at NaN": refused(model=infinite_model),
    "outputs that stay on the CPU": refused(model=MadeOnTheCpu),
    "an infinite gradient": refused(loss=lambda outputs, _: (outputs.sum(1) * 0).abs().sqrt()),
    "a name": wrong(name="a/b"),
    "a label": wrong(score_name="$x$"),
    "an optimizer's name": wrong(optimizer="sgd"),
    "batch sizes in disorder": wrong(batch_sizes=(16, 4, 1)),
    "small above large": wrong(small=16, large=1),
    "a rate of no list": wrong(learning_rate=0.5),
    "a training batch size of no list": wrong(training_batch_sizes=(1, 3, 16)),
    "fitted above the target": wrong(fitted_loss=0.9),
    "small of no list": wrong(small=2),
    "momentum of 1": optimizer(lambda: sgd(momentum=1.0)),
    "an odd hyperparameter": optimizer(lambda: sgd(momentum=object())),
    "an infinite hyperparameter": optimizer(lambda: adamw(weight_decay=float("inf"))),
    "no optimizer": optimizer(lambda: Optimizer.of(int)),
    "a learning rate": optimizer(lambda: Optimizer.of(torch.optim.SGD, lr=0.1)),
    "a local class": optimizer(lambda: Optimizer.of(local_class())),
    "a group without names": optimizer(lambda: sgd().group()),
    "a group with a rate": optimizer(lambda: sgd().group("*", lr=0.1)),
    "a group with a negative scale": optimizer(lambda: sgd().group("*", lr_scale=-1)),
    "a hyperparameter that torch refuses": optimizer(lambda: adam(betas=(2, 2))),
    "a Hessian that is not symmetric": of_weight_norm,
    "no workload": run("nonsense"),
    "no file": run("nonsense.py"),
    "an empty file": lambda at: at.call("run", at.write("empty.py", "")),
    "a broken file": lambda at: at.call("run", at.write("broken.py", "1 / 0")),
    "a name of the suite's": lambda at: at.call("run", at.changed(name="'digits'")),
    "two of a name": lambda at: at.call("run", at.workload, write_workload(at.folder)),
    "two neighbours": neighbours,
    "a claim of no list": run("--claim", "speed"),
    "a claim of no list in a file": lambda at: at.call("run", at.changed(claims="('speed',)")),
    "a preset of no list": run("--preset", "fast"),
    "an engine of no list": run("--engine", "steam"),
    "a backend of no list": run("--backend", "gpu"),
    "nothing to measure": run("--backend", unavailable(), "--claim", "update_sequential"),
    "a backend that is not there": run("--backend", unavailable(), "--claim", "gradient", "--dry-run"),
    "no seeds": run("--seeds", "0"),
    "a row without an answer": lambda at: at.call(
        "run",
        at.changed(optimizer="__import__('suite.optimizers').optimizers.Optimizer.of(torch.optim.Adadelta)"),
        "--dry-run",
        "--preset",
        "quick",
    ),
    "advice from one seed": lambda at: at.call("advise", "--seeds", "1"),
    "advice on Adam": lambda at: at.call(
        "advise", at.changed(optimizer="__import__('suite.optimizers').optimizers.adam()")
    ),
    "advice on a backend that is not there": lambda at: at.call("advise", at.workload, "--backend", unavailable()),
    "no results": lambda at: at.call("report", "--results", "elsewhere"),
    "a damaged cell": with_a_file_changed(lambda at: at.cell.write_bytes(b"")),
    "a damaged cell and a run": damaged_for_a_run,
    "a changed cell": with_metadata(threads=7),
    "another cell": another_cell,
    "a cell of another version": with_metadata(schema_version=9),
    "a manifest with a key twice": with_another_key,
    "a changed manifest": with_another_fact,
    "a manifest of another workload": with_another_name,
    "no such place": lambda at: at.call("run", at.workload, "--results", "/dev/null/results"),
    "a link to nothing": with_a_file_changed(link_to_nothing),
    "a file that may not be read": unreadable,
    "a disk that fills up while asv times": with_a_disk_that_asv_fills,
    "a folder for a file": with_a_file_changed(
        lambda at: (at.results.manifest_file.unlink(), at.results.manifest_file.mkdir())
    ),
    "a file without end": with_a_file_changed(lambda at: os.truncate(at.cell, 2**41)),
    "two runs": beside_another,
    "no room for temporary files": without_room,
    "a full disk": with_a_full_disk,
    "another load()": lambda at: _check_examples(str(at.workload), "another hash"),
    "no benchmarks": without_benchmarks,
    "a broken asv": with_a_broken_asv,
    "what does not compile": not_compiled,
    "a file of CIFAR-10 that is missing": lambda at: cifar10.records(at.folder / "missing.bin"),
    "a file of CIFAR-10 that is short": truncated,
}


def said(trigger: Callable, situation: Situation) -> str:
    """Every word that a trigger is answered with."""
    cli._warn.cache_clear()  # which says the same warning once in a process
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            answer = trigger(situation)
        except (UserError, ValueError) as error:
            answer = error
    return "\n".join([str(answer), *(str(one.message) for one in warned)])


def test_every_message_has_a_trigger_and_every_trigger_a_message(tmp_path, own_workload, trained):
    patterns = {template: pattern_of(template) for template in set(templates()) - WITH_A_SERVER}
    answers = {}
    for number, (name, trigger) in enumerate(TRIGGERS.items()):
        folder = tmp_path / str(number)
        shutil.copytree(trained, folder / "results")
        with pytest.MonkeyPatch.context() as patch:
            answers[name] = said(trigger, Situation(folder, own_workload, folder / "results", patch))
    untold = [name for name, answer in answers.items() if not any(one.search(answer) for one in patterns.values())]
    untriggered = [
        template for template, pattern in patterns.items() if not any(map(pattern.search, answers.values()))
    ]
    assert "\n".join(untriggered) == ""
    assert "\n".join(untold) == ""
    assert "Traceback" not in "".join(answers.values())


def test_messages_that_need_a_server_are_in_the_code():
    assert set(templates()) >= WITH_A_SERVER
