import os
import resource
import subprocess
import sys

import pytest

from suite.results import Results
from tests.command import TRAINED, assert_refused, call, suite_command


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ()])
def test_help_imports_neither_torch_nor_pandas(arguments):
    program = (
        "import sys; sys.argv = ['suite', *sys.argv[1:]]\n"
        "from suite.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Usage: suite" in done.stdout
    assert not {"torch", "pandas", "numpy", "matplotlib"} & set(done.stderr.split())


def test_help_answers_in_half_a_second_of_processor_time():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(suite_command("--help"), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["No such command 'nonsense'", "suite --help"]),
        (["run", "--nonsense"], ["No such option"]),
        (["run", "nonsense"], ["no workload 'nonsense'", "digits", "Python file"]),
        (["run", "nonsense.py"], ["no workload file nonsense.py"]),
        (["run", "--backend", "gpu"], ["no backend 'gpu'", "sequential, cpu, cuda"]),
        (["run", "--claim", "speed"], ["no claim 'speed'", "update_sequential"]),
        (["run", "--preset", "fast"], ["no preset 'fast'", "quick, default, full"]),
        (["run", "--seeds", "0"], ["--seeds 0", "1 or more"]),
        (["run", "--seeds", "many"], ["--seeds"]),
        (["run", "--workers", "0"], ["--workers 0"]),
        (["report", "--results", "no/such/folder"], ["no results in no/such/folder", "suite run"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, words, tmp_path):
    assert_refused(call(*arguments, folder=tmp_path), *words)
    assert os.listdir(tmp_path) == []


def test_a_broken_workload_is_named_before_anything_is_measured(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("from tests.conftest import tiny\nworkload = tiny(batch_sizes=(1, 16, 64))")
    done = call("run", path, "--results", tmp_path / "results", PYTHONPATH=os.getcwd())
    assert_refused(done, "workload tiny: batch size 64 is more than its 40 training examples")
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path, own_workload):
    (tmp_path / "file").write_text("in the way")
    done = call("run", own_workload, *TRAINED, "--results", tmp_path / "file" / "results")
    assert_refused(done, "cannot write to", "--results")


def test_a_second_run_is_told_who_holds_the_folder(tmp_path, own_workload):
    with Results(tmp_path).locked():
        done = call("run", own_workload, *TRAINED, "--preset", "quick", "--results", tmp_path)
    assert_refused(done, f"in use by process {os.getpid()}", "since")


def damage_cell(folder, content):
    cell = sorted((folder / "cells").glob("*.parquet"))[0]
    cell.write_bytes(content(cell.read_bytes()))
    return cell


DAMAGE = {
    "a truncated cell": lambda folder: damage_cell(folder, lambda whole: whole[: len(whole) // 2]),
    "an empty cell": lambda folder: damage_cell(folder, lambda whole: b""),
    "a cell that is text": lambda folder: damage_cell(folder, lambda whole: b"not Parquet"),
}


@pytest.mark.parametrize("command", ["run", "report"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cell_is_named_and_left_as_it_is(command, damage, copied, own_workload):
    cell = damage(copied)
    before = cell.read_bytes()
    arguments = [own_workload, *TRAINED, "--preset", "quick"] if command == "run" else []
    assert_refused(call(command, *arguments, "--results", copied), cell.name, "damaged", "delete it")
    assert cell.read_bytes() == before


@pytest.mark.parametrize("command", ["run", "report"])
@pytest.mark.parametrize("content", ["{", "[]", '{"workloads": 3}', '{"schema_version": 1}', "\\xff"])
def test_a_damaged_manifest_is_named_and_left_as_it_is(command, content, copied, own_workload):
    (copied / "manifest.json").write_text(content)
    arguments = [own_workload, *TRAINED, "--preset", "quick"] if command == "run" else []
    assert_refused(call(command, *arguments, "--results", copied), "manifest.json is damaged", "no cell is lost")
    assert (copied / "manifest.json").read_text() == content


def test_a_dry_run_names_every_cell_and_writes_nothing(tmp_path, own_workload):
    done = call("run", own_workload, "--preset", "quick", "--dry-run", "--results", tmp_path / "results")
    assert done.returncode == 0
    assert "update_time · tiny · sequential" in done.stdout
    assert "time unknown" in done.stdout
    assert not (tmp_path / "results").exists()


def test_a_dry_run_knows_what_is_stored_and_how_long_more_of_it_takes(trained, own_workload):
    arguments = ("run", own_workload, *TRAINED, "--preset", "quick", "--dry-run", "--results", trained)
    assert "0 to measure" in call(*arguments).stdout
    more_seeds = call(*arguments, "--seeds", "4").stdout
    assert "gradient_noise" in more_seeds
    assert "about" in more_seeds


def test_list_and_sysinfo_say_what_there_is():
    listed = call("list").stdout
    assert all(word in listed for word in ("digits", "generalization", "sequential", "default"))
    assert all(word in call("sysinfo").stdout for word in ("machine", "torch", "commit"))
