"""Test the gate on planted regressions: `python -m benchmarks.gate.planted [NAME ...] [--times N] [--burning]`.

Plants each change into the working tree's commit, one after another, runs the gate on it, and compares the exit code
with the expected one.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gate.judge import NO_VERDICT, NOTHING, REGRESSION
from benchmarks.gate.sides import snapshot, worktrees


@dataclass(frozen=True)
class Planted:
    """The replacement of a text in a file, and the exit code that the gate should end with."""

    expected_code: int
    file: str
    old: str
    new: str


UPDATE = """\
    optimizer.zero_grad()
    backend.gradient(model, loss, inputs, targets)
    optimizer.step()
"""
SLOWER_UPDATE = f"""\
    import time

    began = time.perf_counter()
{UPDATE}    until = time.perf_counter() + 0.15 * (time.perf_counter() - began)
    while time.perf_counter() < until:
        pass
"""
COMPILED = "    if no_compiler():\n        return None\n"
MEAN_GRADIENT = "    loss(model(inputs), targets).mean().backward()\n"
ENSEMBLES_LOSS = "workload.loss(outputs, targets).mean(), buffers"
RESIDENT_ORDER = "order = epoch_indices(len(inputs), generator, with_replacement)"
ENSEMBLES_ORDER = "epoch_indices(self.count, generator, protocol.with_replacement)"
EVALUATION = "    was_training = model.training\n    model.eval()\n"
ENSEMBLES_EVALUATION = "    model = workload.initial_model(0).eval()\n"

PLANTED = {
    "nothing": Planted(NOTHING, "README.md", "", ""),
    "slower update": Planted(REGRESSION, "suite/training/update.py", UPDATE, SLOWER_UPDATE),
    "eager ensemble": Planted(REGRESSION, "suite/training/compilation.py", COMPILED, "    return None\n"),
    "gradient scale": Planted(
        REGRESSION, "suite/backends.py", MEAN_GRADIENT, MEAN_GRADIENT.replace(".mean()", ".mean().mul(1.01)")
    ),
    "ensemble's gradient scale": Planted(
        REGRESSION, "suite/training/ensemble.py", ENSEMBLES_LOSS, ENSEMBLES_LOSS.replace(".mean()", ".mean() * 1.01")
    ),
    "shuffle": Planted(REGRESSION, "suite/training/epoch.py", RESIDENT_ORDER, f"{RESIDENT_ORDER}[1:]"),
    "ensemble's shuffle": Planted(
        REGRESSION, "suite/training/lockstep.py", ENSEMBLES_ORDER, f"{ENSEMBLES_ORDER}.clamp(min=1)"
    ),
    "evaluation": Planted(
        REGRESSION, "suite/training/evaluate.py", EVALUATION, EVALUATION.replace("model.eval()", "model.train()")
    ),
    "ensemble's evaluation": Planted(
        REGRESSION,
        "suite/training/ensemble.py",
        ENSEMBLES_EVALUATION,
        ENSEMBLES_EVALUATION.replace(".eval()", ".train()"),
    ),
    "build": Planted(NO_VERDICT, "pyproject.toml", "[project]", "[project"),
    "import": Planted(NO_VERDICT, "suite/training/update.py", "import torch", "import torch_that_is_not_there"),
}
TIMED = ("nothing", "slower update", "eager ensemble")
"""Worth repeating: the result of every untimed change is the same every time."""


def plant(planted: Planted, commit: str, root: Path, scratch: Path) -> str:
    """`commit` with the change, as a commit."""
    with worktrees({"planted": commit}, root, scratch) as trees:
        file = trees["planted"] / planted.file
        text = file.read_text()
        if planted.old and text.count(planted.old) != 1:
            sys.exit(f"{planted.file} must hold the text to be replaced exactly once: {planted.old!r}")
        file.write_text(text.replace(planted.old, planted.new, 1))
        return snapshot(trees["planted"], scratch)


def run_gate(name: str, commit: str, root: Path) -> int:
    """The gate's exit code for `commit` with the change called `name`."""
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        head = plant(PLANTED[name], commit, root, Path(scratch))
    print(f"planted: {name}", flush=True)
    return subprocess.run([sys.executable, "-m", "benchmarks.gate", commit, head], cwd=root).returncode


def burning():
    """A second process that keeps a core busy, for a `with`."""
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


def repeat(names: Sequence[str], times: int, burn: bool, root: Path) -> bool:
    """Whether every gate ended with the expected code; the last lines count how often."""
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        commit = snapshot(root, Path(scratch))
    codes = {}
    for name in names:
        for _ in range(times if name in TIMED else 1):
            with burning() if burn else nullcontext() as burner:
                codes.setdefault(name, []).append(run_gate(name, commit, root))
                if burner:
                    burner.kill()
    expected = {name: PLANTED[name].expected_code for name in codes}
    for name, ended in codes.items():
        count = f"{ended.count(expected[name])} of {len(ended)} times"
        print(f"planted: {name}: exit code {expected[name]} expected, {count}: {ended}")
    return all(code == expected[name] for name, ended in codes.items() for code in ended)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate.planted", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLANTED)}; all when left out")
    parser.add_argument("--times", type=int, default=1, help=f"how often to run the gate on {', '.join(TIMED)}")
    parser.add_argument("--burning", action="store_true", help="beside a second process that keeps a core busy")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PLANTED):
        parser.error(f"no {', '.join(unknown)}: choose from {', '.join(PLANTED)}")
    sys.exit(not repeat(arguments.names or list(PLANTED), arguments.times, arguments.burning, Path.cwd()))


if __name__ == "__main__":
    main()
