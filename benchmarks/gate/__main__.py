"""`python -m benchmarks.gate BASE [HEAD]`: whether HEAD, or the working tree, is worse than the commit where it left
BASE.

Exit code 0: no regression; 1: a regression; 2: it could not be measured. The last line says so in words.
"""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

LIMIT_S = 105
"""No round of timings begins that would end later."""


def compare(base: str, head: str | None, root: Path, scratch: Path) -> list:
    """The rows of the gate's table. Raises CouldNotMeasure."""
    from benchmarks.gate.rounds import findings, ratios
    from benchmarks.gate.sides import build, common_commit, snapshot, worktrees

    began = time.monotonic()
    head = head or snapshot(root, scratch)
    commits = {"base": common_commit(base, head, root), "head": head}
    with worktrees(commits, root, scratch) as trees:
        sides = build(trees, scratch)
    print(f"gate: built both after {time.monotonic() - began:.0f} s", flush=True)
    rows = findings(sides, scratch)
    print(f"gate: findings after {time.monotonic() - began:.0f} s", flush=True)
    return rows + ratios(sides, scratch, began + LIMIT_S)


def gate(base: str, head: str | None, root: Path) -> int:
    """The exit code, after the table and the line that says it."""
    from benchmarks.gate.judge import NO_VERDICT, conclusion
    from benchmarks.gate.sides import CouldNotMeasure
    from benchmarks.gate.table import show

    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="gate-") as scratch:
            rows = compare(base, head, root, Path(scratch).resolve())
        show(f"{head or 'the working tree'} against {base}", rows)
        code, line = conclusion(rows)
    except CouldNotMeasure as error:
        code, line = NO_VERDICT, f"could not measure: {error}"
    print(f"gate: {line}, {time.monotonic() - began:.0f} s, exit code {code}")
    return code


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__, add_help=True)
    parser.add_argument("base", help="a branch or commit, such as main")
    parser.add_argument("head", nargs="?", help="a branch or commit; the working tree when it is left out")
    arguments = parser.parse_args()
    try:
        code = gate(arguments.base, arguments.head, Path.cwd())
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        print("gate: could not measure: the gate itself failed, exit code 2")
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
