"""Measure both sides: their findings at the same time, then their ratios in rounds."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.gate.judge import FLOOR, Row, change_of, judge_finding, judge_ratio, log_ratio
from benchmarks.gate.process import Process
from benchmarks.gate.sides import Side

BLOCKS = 5
"""Turns of each process in a round."""
MIN_ROUNDS, ENOUGH_ROUNDS, MAX_ROUNDS = 3, 5, 12
"""At least where time runs out, at least where every threshold is at its floor, and at most."""

Rounds = dict[str, list[tuple[float, float, float]]]
"""By the ratio's name: its logarithm in base, head and base again, round after round."""


def findings(sides: Sequence[Side], scratch: Path) -> list[Row]:
    """The findings of both sides, measured at the same time: nothing is timed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(side, "findings", scratch)) for side in sides]
        for process in processes:
            process.ready()
        base, head = (process.answer() for process in processes)
    return [judge_finding(*both) for both in zip(base, head, strict=True)]


def ratios(sides: Sequence[Side], scratch: Path, until: float) -> list[Row]:
    """Measure rounds until every threshold is at its floor, or until another round would end after `until` (as
    time.monotonic). The stopping rule depends on the spread alone, never on the change."""
    by_ratio: Rounds = {}
    count = 0
    while count < MAX_ROUNDS:
        began = time.monotonic()
        for name, logs in one_round(sides, scratch).items():
            by_ratio.setdefault(name, []).append(logs)
        count += 1
        ended = time.monotonic()
        late = ended + (ended - began) > until
        print(f"gate: round {count} of ratios in {ended - began:.0f} s", flush=True)
        if count >= MIN_ROUNDS and (late or (count >= ENOUGH_ROUNDS and at_floor(by_ratio))):
            break
    return [judge_ratio(name, "x frozen", rounds, len(by_ratio)) for name, rounds in by_ratio.items()]


def at_floor(by_ratio: Rounds) -> bool:
    """Whether the threshold of every ratio is at its floor."""
    return all(change_of(rounds, len(by_ratio)).threshold <= FLOOR for rounds in by_ratio.values())


def one_round(sides: Sequence[Side], scratch: Path) -> dict[str, tuple[float, float, float]]:
    """The logarithm of each ratio in new processes of base, head and base again, which start together and then take
    turns."""
    base, head = sides
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(side, "ratios", scratch)) for side in (base, head, base)]
        for process in processes:
            process.ready()
        (names, *_) = [process.answer() for process in processes]
        readings = [{name: [] for name in names} for _ in processes]
        for block in range(BLOCKS):
            for turn in range(3):
                index = (block + turn) % 3
                processes[index].ask()
                for name, of_block in processes[index].answer().items():
                    readings[index][name] += of_block
    return {name: tuple(log_ratio(of_process[name]) for of_process in readings) for name in names}
