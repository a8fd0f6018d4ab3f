import importlib.metadata
import os
import resource
import subprocess
import sys

import pytest

from suite.backends import ACCELERATORS
from suite.runs.store import Results
from tests.command import QUICK, ROOT, TRAINED, assert_refused, call, call_here, suite_command, write_workload


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


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help")])
def test_help_answers_in_half_a_second_of_processor_time(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(suite_command(*arguments), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["No such command 'nonsense'", "`suite --help`"]),
        (["run", "--seed", "3"], ["No such option: --seed", "`suite run --help`"]),
        (["report", "digits"], ["unexpected extra argument", "`suite report --help`"]),
        (["run", "--nonsense"], ["No such option"]),
        (["run", "nonsense"], ["no workload 'nonsense'", "digits", "Python file"]),
        (["run", "nonsense.py"], ["no workload file nonsense.py"]),
        (["run", "--backend", "gpu"], ["no backend 'gpu'", "sequential, cpu, cuda"]),
        (["run", "--claim", "speed"], ["no claim 'speed'", "update_sequential"]),
        (["run", "--preset", "fast"], ["no preset 'fast'", "quick, default, full"]),
        (["run", "--seeds", "0"], ["--seeds 0", "1 or more"]),
        (["run", "--seeds", "many"], ["--seeds"]),
        (["run", "--workers", "0"], ["--workers 0"]),
        (["run", "--backend", "cuda", "--claim", "update_sequential"], ["nothing to measure"]),
        (["report", "--results", "no/such/folder"], ["no results in no/such/folder", "suite run"]),
        (["report", "--nonsense"], ["No such option"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, words, tmp_path):
    assert_refused(call_here(*arguments, folder=tmp_path), *words)
    assert os.listdir(tmp_path) == []


def test_a_mistake_ends_a_process_of_its_own_with_code_2():
    assert_refused(call("run", "nonsense"), "no workload 'nonsense'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 / 0", ["does not run", "ZeroDivisionError"]),
        ("workload = 3", ["holds no workload", "workload = Workload(...)"]),
    ],
)
def test_a_file_that_holds_no_workload_is_named(content, words, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(content)
    assert_refused(call_here("run", path, "--results", tmp_path / "results"), "mine.py", *words)
    assert not (tmp_path / "results").exists()


def test_two_workloads_of_one_name_are_refused(tmp_path, own_workload):
    other = write_workload(tmp_path, "tiny")
    done = call_here("run", own_workload, other, "--results", tmp_path / "results")
    assert_refused(done, "are both called 'tiny'", str(own_workload), str(other))


def test_a_workload_named_twice_is_measured_once(tmp_path, own_workload):
    arguments = ("--claim", "optimization", "--preset", "quick", "--dry-run", "--results", tmp_path / "results")
    once = call_here("run", own_workload, *arguments)
    assert call_here("run", own_workload, own_workload, *arguments).stdout == once.stdout
    assert "4 cells" in once.stdout


def test_a_broken_workload_is_named_before_anything_is_measured(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("from tests.conftest import tiny\nworkload = tiny(batch_sizes=(1, 16, 64))")
    done = call_here("run", path, "--results", tmp_path / "results")
    assert_refused(done, "workload tiny: batch size 64 is more than its 40 training examples")
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path, own_workload):
    (tmp_path / "file").write_text("in the way")
    done = call_here("run", own_workload, *QUICK, "--results", tmp_path / "file" / "results")
    assert_refused(done, "cannot write to", "--results")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_is_one_line_too(tmp_path, own_workload):
    program = (
        "import resource, sys\n"
        "from suite.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "sys.argv[0] = 'suite'\n"
        "main()"
    )
    command = [sys.executable, "-c", program, "run", own_workload, *QUICK, "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    *progress, last = done.stderr.splitlines()
    assert done.returncode == 2
    assert last.startswith(f"suite: cannot write to {tmp_path} (")
    assert all(line.startswith("[") for line in progress)


def test_a_report_that_cannot_be_written_is_one_line(copied):
    (copied / "report").write_text("in the way")
    assert_refused(call_here("report", "--results", copied), "cannot write to", "File exists")
    assert (copied / "report").read_text() == "in the way"


def test_a_second_run_is_told_who_holds_the_folder(tmp_path, own_workload):
    with Results(tmp_path).locked():
        done = call("run", own_workload, *QUICK, "--results", tmp_path)
    assert_refused(done, f"in use by process {os.getpid()}", "since")


def test_a_dry_run_names_every_cell_and_writes_nothing(tmp_path, own_workload):
    done = call_here("run", own_workload, "--preset", "quick", "--dry-run", "--results", tmp_path / "results")
    assert done.returncode == 0
    assert "update_time · tiny · sequential" in done.stdout
    assert "time unknown" in done.stdout
    assert "unavailable" not in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("backend", ACCELERATORS, ids=lambda backend: backend.name)
def test_a_dry_run_says_why_a_named_backend_is_left_out(backend, tmp_path, own_workload):
    asked = ("--preset", "quick", "--claim", "update_parallel", "--backend", backend.name, "--dry-run")
    done = call_here("run", own_workload, *asked, "--results", tmp_path / "results")
    lines = [line for line in done.stdout.splitlines() if f"· {backend.name} ·" in line]
    assert lines
    reason = backend.unavailable()
    assert all((f"unavailable, {reason}" in line) == bool(reason) for line in lines)


def test_a_dry_run_knows_what_is_stored_and_how_long_more_of_it_takes(trained, own_workload):
    arguments = ("run", own_workload, *TRAINED, "--preset", "quick", "--dry-run", "--results", trained)
    assert "0 to measure" in call_here(*arguments).stdout
    more_seeds = call_here(*arguments, "--seeds", "4").stdout
    assert "gradient_noise" in more_seeds
    assert "about" in more_seeds


def test_list_and_sysinfo_say_what_there_is():
    listed = call_here("list").stdout
    assert all(word in listed for word in ("digits", "generalization", "sequential", "default"))
    assert all(word in call_here("sysinfo").stdout for word in ("machine", "torch", "commit"))


def test_the_version_is_that_of_the_package():
    done = call_here("--version")
    assert done.returncode == 0
    assert done.stdout == f"suite {importlib.metadata.version('batch-size-suite')}\n"
