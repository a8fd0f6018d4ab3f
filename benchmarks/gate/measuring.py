"""The process that measures one side: `python -P -m benchmarks.gate.measuring findings|ratios`.

The gate's own benchmarks measure whichever PACKAGE stands first on PYTHONPATH. Answers are lines of JSON.
"""

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TextIO

from benchmarks.gate.watched import FINDINGS, PACKAGE, RATIOS

BLOCK = 8
"""Readings of each ratio per line of standard input."""


def tracks(module: ModuleType) -> Iterator[tuple[str, Callable]]:
    """Yield the name and the function of each number that a module of benchmarks tracks, with its parameters as in
    asv."""
    for name, track in vars(module).items():
        if name.startswith("track_"):
            title = name.removeprefix("track_").replace("_", " ")
            for values in itertools.product(*getattr(track, "params", ())):
                yield ", ".join([title, *values]), partial(track, *values)


def entries(modules: list[ModuleType]) -> Iterator[dict]:
    """Yield an entry for each track: its `name`, `unit` and tolerances with its `value`, or with the reason why there
    is none: `skipped` where the track itself declines, `failed` where it raises."""
    for module in modules:
        for name, measure in tracks(module):
            track = measure.func
            entry = {"name": name, "unit": track.unit, "relative": track.relative, "absolute": track.absolute}
            try:
                getattr(track, "setup", lambda *_: None)(*measure.args)
                yield entry | {"value": float(measure())}
            except NotImplementedError as reason:
                yield entry | {"skipped": str(reason)}
            except Exception as error:
                yield entry | {"failed": f"{type(error).__name__}: {error}"}


def findings(answers: TextIO) -> None:
    print(json.dumps(list(entries([import_module(name) for name in FINDINGS]))), file=answers, flush=True)


def ratios(answers: TextIO) -> None:
    """Make every pair, answer with their names, and then answer each line of input with a block of readings of
    each."""
    module = import_module(RATIOS)
    readings = {name: iter(module.Readings(make())) for name, make in module.PAIRS.items()}
    print(json.dumps(list(readings)), file=answers, flush=True)
    for _ in sys.stdin:
        blocks = {name: [] for name in readings}
        for _ in range(BLOCK):
            for name, of_pair in readings.items():
                blocks[name].append(next(of_pair))
        print(json.dumps(blocks), file=answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # all further output goes to the log
    print(json.dumps(os.path.dirname(import_module(PACKAGE).__file__)), file=answers, flush=True)
    {"findings": findings, "ratios": ratios}[sys.argv[1]](answers)


if __name__ == "__main__":
    main()
