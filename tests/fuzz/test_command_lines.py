"""Any words after `suite`."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.advise import command as advise_command
from suite.errors import UserError
from suite.runs import run as runs
from tests.command import write_workload
from tests.fuzz import examples
from tests.fuzz.oracle import call_and_judge

COMMANDS = ("run", "report", "advise", "list", "sysinfo", "--help", "--version", "advice", "")
OPTIONS = ("--preset", "--backend", "--claim", "--seeds", "--engine", "--workers", "--results", "--json", "--verify")
SWITCHES = ("--no-verify", "--dry-run", "--help", "--version", "--", "-x", "--sedes")
WORDS = (
    *("tiny.py", "digits", "twenty", "nowhere.py", "folder", "folder.py", "empty.py", "broken.py", "results", "."),
    *("quick", "default", "full", "cpu", "sequential", "cuda", "gradient", "optimization", "momentum"),
    *("ensemble", "plain", "0", "1", "2", "-1", "1.5", "1e9", "99999999999999999999", "nan", "", " ", "*", "~"),
    *("results\n", "ré sultats", "a" * 300, "../up", "/dev/null", "/dev/null/x", "/proc/nothing", "\u202e", "'\""),
)
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=8).filter(lambda text: "\0" not in text))
pairs = st.tuples(st.sampled_from(OPTIONS), words).map(list)
parts = st.one_of(pairs, st.sampled_from(SWITCHES).map(lambda word: [word]), words.map(lambda word: [word]))
lines = st.tuples(st.sampled_from(COMMANDS), st.lists(parts, max_size=5)).map(
    lambda line: [line[0], *itertools.chain(*line[1])]
)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_workload(folder)
        (folder / "folder.py").mkdir()
        (folder / "folder").mkdir()
        (folder / "empty.py").write_text("")
        (folder / "broken.py").write_text("1 / 0")
        yield folder


def refuse(*_, **__):
    raise UserError("nothing is measured here")


@given(lines)
@examples(500)
def test_any_command_line_is_run_or_refused_in_one_line(folder, line):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_Runner", refuse)
        patch.setattr(advise_command, "recommend", refuse)
        call_and_judge(*line, folder=folder)
