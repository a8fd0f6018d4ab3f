"""The measuring: findings of both sides side by side, then ratios in rounds."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.gate.judge import FLOOR, Row, change_of, judge_finding, judge_ratio, log_ratio
from benchmarks.gate.process import Process
from benchmarks.gate.sides import Side

BLOCKS = 5
"""Turns that each process of a round gets."""
LEAST, ENOUGH, MOST = 3, 5, 12
"""Rounds: as few where time runs out, as few where every threshold is at its floor, and never more."""

Rounds = dict[str, list[tuple[float, float, float]]]
"""By ratio's name: its logarithm in base, head and base again, round after round."""


def findings(sides: Sequence[Side], scratch: Path) -> list[Row]:
    """Each side's findings, at the same time: nothing is timed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(side, "findings", scratch)) for side in sides]
        for process in processes:
            process.ready()
        base, head = (process.answer() for process in processes)
    return [judge_finding(*both) for both in zip(base, head, strict=True)]


def ratios(sides: Sequence[Side], scratch: Path, until: float) -> list[Row]:
    """Rounds until every threshold is at its floor, or no other would end before `until` (as time.monotonic). When
    to stop is seen from the spread alone, never from the change."""
    taken: Rounds = {}
    count = 0
    while count < MOST:
        began = time.monotonic()
        for name, logs in one_round(sides, scratch).items():
            taken.setdefault(name, []).append(logs)
        count += 1
        ended = time.monotonic()
        late = ended + (ended - began) > until
        print(f"gate: round {count} of ratios in {ended - began:.0f} s", flush=True)
        if count >= LEAST and (late or (count >= ENOUGH and settled(taken))):
            break
    return [judge_ratio(name, "x frozen", rounds, len(taken)) for name, rounds in taken.items()]


def settled(taken: Rounds) -> bool:
    return all(change_of(rounds, len(taken)).threshold <= FLOOR for rounds in taken.values())


def one_round(sides: Sequence[Side], scratch: Path) -> dict[str, tuple[float, float, float]]:
    """Fresh processes of base, head and base again, which start side by side and then take turns: the logarithm of
    each ratio in each."""
    base, head = sides
    with ExitStack() as stack:
        three = [stack.enter_context(Process(side, "ratios", scratch)) for side in (base, head, base)]
        for process in three:
            process.ready()
        (names, *_) = [process.answer() for process in three]
        readings = [{name: [] for name in names} for _ in three]
        for block in range(BLOCKS):
            for turn in range(3):
                at = (block + turn) % 3
                three[at].ask()
                for name, some in three[at].answer().items():
                    readings[at][name] += some
    return {name: tuple(log_ratio(of[name]) for of in readings) for name in names}
