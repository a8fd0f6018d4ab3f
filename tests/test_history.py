"""The branch `results` that machines append to: asv is a stand-in, the remote repository lies nearby."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not (shutil.which("git") and shutil.which("bash")), reason="no git, or no bash")

HISTORY = Path(__file__).parent.parent / ".ci" / "history"
ASV = """#!/usr/bin/env bash
if [ "$1" = run ]; then echo '{}' > .asv/results/$MEASURED.json; echo "$MEASURED" > .asv/results/benchmarks.json; fi
"""


def git(folder: Path, *arguments) -> str:
    command = ["git", "-c", "user.name=one", "-c", "user.email=one@localhost", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path):
    """`clone(name)`: another machine's clone of the same remote repository."""
    seed = tmp_path / "seed"
    for name, text in {".gitignore": ".asv/\n", "Makefile": ".venv/installed:\n", ".venv/bin/asv": ASV}.items():
        (seed / name).parent.mkdir(parents=True, exist_ok=True)
        (seed / name).write_text(text)
    (seed / ".venv/bin/asv").chmod(0o755)
    (seed / ".ci").mkdir()
    shutil.copy(HISTORY, seed / ".ci")
    git(tmp_path, "init", "--quiet", "-b", "main", seed)
    git(seed, "add", "--all")
    git(seed, "commit", "--quiet", "-m", "seed")
    git(tmp_path, "clone", "--quiet", "--bare", seed, "remote.git")

    def made(name: str) -> Path:
        git(tmp_path, "clone", "--quiet", tmp_path / "remote.git", name)
        return tmp_path / name

    return made


def history(folder: Path, measured: str) -> int:
    """The exit code of a run that measures what is called so."""
    environment = os.environ | {"MEASURED": measured}
    return subprocess.run([folder / ".ci" / "history"], env=environment, capture_output=True).returncode


def published(folder: Path) -> set[str]:
    git(folder, "fetch", "--quiet", "origin", "refs/heads/results")
    return set(git(folder, "ls-tree", "--name-only", "FETCH_HEAD").split()) - {"benchmarks.json"}


def test_machines_append_in_turns(clone):
    one, other = clone("one"), clone("other")
    for folder, measured in ((one, "a"), (other, "b"), (one, "c"), (other, "d")):
        assert history(folder, measured) == 0
    assert published(one) == {"a.json", "b.json", "c.json", "d.json"}
    assert git(one, "log", "--format=%s", "FETCH_HEAD").splitlines().count("Results") == 1


def test_a_remote_that_does_not_answer_is_no_new_history(clone):
    one, late = clone("one"), clone("late")
    assert history(one, "a") == 0
    address = git(late, "remote", "get-url", "origin").strip()
    git(late, "remote", "set-url", "origin", f"{address}.gone")
    assert history(late, "b") != 0
    git(late, "remote", "set-url", "origin", address)
    assert history(late, "c") == 0
    assert published(one) == {"a.json", "c.json"}


def test_what_a_rejected_push_left_goes_with_the_next(clone, tmp_path):
    one, other = clone("one"), clone("other")
    assert history(one, "a") == 0
    hook = tmp_path / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert history(one, "b") != 0
    hook.unlink()
    assert history(other, "c") == 0
    assert history(one, "d") == 0
    assert published(one) == {"a.json", "b.json", "c.json", "d.json"}
