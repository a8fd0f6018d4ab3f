"""The two sides of the comparison: each a commit, checked out as a worktree, and built in the gate's environment."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class CouldNotMeasure(Exception):
    """The reason why there is no verdict, in one line."""


@dataclass(frozen=True)
class Side:
    name: str
    folder: Path
    """Holds the package as pip would install it."""


def last_line(output: str) -> str:
    """The last line of a process's `output`."""
    *_, last = ["no message", *output.strip().splitlines()]
    return last


def git(*arguments: str, at: Path, **environment: str) -> str:
    """The output of git. Raises CouldNotMeasure with git's own message."""
    command = ["git", "-C", str(at), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    except OSError as error:
        raise CouldNotMeasure(f"git does not run: {error}") from error
    if done.returncode:
        raise CouldNotMeasure(f"git {' '.join(arguments)}: {last_line(done.stderr)}")
    return done.stdout.strip()


def snapshot(root: Path, scratch: Path) -> str:
    """The working tree at `root` as a commit of no branch: HEAD itself where nothing differs from it, else a commit
    made without touching git's own index, with every file that git does not ignore."""
    if not git("status", "--porcelain", at=root):
        return git("rev-parse", "HEAD", at=root)
    index = {"GIT_INDEX_FILE": str(scratch / "index")}
    git("read-tree", "HEAD", at=root, **index)
    git("add", "--all", at=root, **index)
    tree = git("write-tree", at=root, **index)
    author = ("-c", "user.name=gate", "-c", "user.email=gate@localhost")
    return git(*author, "commit-tree", tree, "-p", "HEAD", "-m", "Working tree", at=root)


def common_commit(base: str, head: str, root: Path) -> str:
    """The commit at which `head` left `base`: later commits of base are not head's doing."""
    for name in (base, head):
        git("rev-parse", "--verify", f"{name}^{{commit}}", at=root)
    try:
        return git("merge-base", base, head, at=root)
    except CouldNotMeasure as error:
        raise CouldNotMeasure(f"{base} and {head} share no commit here: is the clone a shallow one?") from error


@contextmanager
def worktrees(commits: dict[str, str], root: Path, scratch: Path) -> Iterator[dict[str, Path]]:
    """A worktree in `scratch` for each name and commit, removed afterwards."""
    trees = {name: scratch / f"{name}-tree" for name in commits}
    try:
        for name, commit in commits.items():
            git("worktree", "add", "--detach", str(trees[name]), commit, at=root)
        yield trees
    finally:
        for tree in trees.values():
            remove = ["git", "-C", str(root), "worktree", "remove", "--force", str(tree)]
            subprocess.run(remove, capture_output=True)


def build(trees: dict[str, Path], scratch: Path) -> list[Side]:
    """Build a wheel from each tree, all at once, and unpack it."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    building = {
        name: subprocess.Popen([*pip, "--wheel-dir", str(scratch / f"{name}-wheel"), str(tree)], **pipes)
        for name, tree in trees.items()
    }
    stderr = {name: process.communicate()[1] for name, process in building.items()}
    sides = []
    for name, process in building.items():
        wheels = list((scratch / f"{name}-wheel").glob("*.whl"))
        if process.returncode or len(wheels) != 1:
            print(stderr[name], file=sys.stderr)
            raise CouldNotMeasure(f"{name} does not build: {last_line(stderr[name])}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(scratch / name)
        sides.append(Side(name, scratch / name))
    return sides
