"""The process in which asv runs benchmarks: `python -m suite.timing.asv_process REQUEST`.

asv starts processes of its own and saves only at its end, so it runs in a process that ends them all when `suite run`
dies: standard input is a pipe from there, and its end of file is the signal.
"""

import ctypes
import itertools
import json
import math
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.environment import ExistingEnvironment
from asv.repo import NoRepository
from asv.runner import run_benchmarks

PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(scratch: Path) -> threading.Event:
    """End all child processes, remove `scratch` and end this process as soon as standard input is closed.

    Returns the event that is set when this begins: a main thread that returned meanwhile would cut it short.
    """
    if sys.platform == "linux":
        # Orphaned grandchildren become children of this process, so that none is missed.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ending = threading.Event()
    threading.Thread(target=_end_all_at_end_of_input, args=[scratch, ending], daemon=True).start()
    return ending


def _end_all_at_end_of_input(scratch: Path, ending: threading.Event) -> None:
    os.read(0, 1)
    ending.set()
    this = psutil.Process()
    while children := this.children(recursive=True):
        for process in children:
            process.kill()
        psutil.wait_procs(children, timeout=1)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def run(request: dict) -> Iterator[list[dict]]:
    """Have asv discover the benchmarks in this interpreter, once, and run the requested ones one after another.

    `request` holds `benchmark_dir`, `scratch`, `launch_method` and `benchmarks`, the keyword arguments of `run_one`
    for each.
    """
    config = Config()
    config.project = "batch-size-suite"
    config.benchmark_dir = request["benchmark_dir"]
    config.env_dir = config.results_dir = config.html_dir = request["scratch"]
    config.environment_type, config.dvcs, config.branches = "existing", "none", []
    environment = ExistingEnvironment(config, sys.executable, {}, {})

    benchmarks = Benchmarks.discover(config, NoRepository(), [environment], [None])
    for arguments in request["benchmarks"]:
        yield run_one(benchmarks, environment, request["launch_method"], **arguments)


def run_one(
    discovered: Benchmarks,
    environment: ExistingEnvironment,
    launch_method: str,
    name: str,
    parameters: list[list],
    processes: int,
    variables: dict[str, str],
) -> list[dict]:
    """Run the benchmark called `name` with each of the combinations `parameters`, in `processes` new processes with
    the environment `variables`.

    Returns an entry per combination, in order: `samples_s` (seconds, those of one process after another) or, where
    there are none, `skipped` (whether the benchmark itself declined) and `reason`.
    """
    benchmarks = discovered.filter_out(set(discovered) - {name})
    params = benchmarks[name]["params"]
    combinations = list(itertools.product(*params))
    wanted = [combinations.index(tuple(map(repr, values))) for values in parameters]
    benchmarks.benchmark_selection[name] = wanted

    os.environ.update(variables)
    results = run_benchmarks(
        benchmarks,
        environment,
        extra_params={"rounds": processes},
        record_samples=True,
        launch_method=launch_method,
    )
    values = results.get_result_value(name, params)
    samples = results.get_result_samples(name, params)
    stderr = results.stderr.get(name, "")
    return [_entry(values[i], samples[i], stderr, combinations[i]) for i in wanted]


def _entry(value: float | None, samples: list[float] | None, stderr: str, combination: tuple[str, ...]) -> dict:
    if samples:
        return {"samples_s": samples}
    section = stderr.partition(f"For parameters: {', '.join(combination)}\n")[2].partition("\n\nFor parameters:")[0]
    skipped = value is not None and math.isnan(value)
    declined = re.search(r"NotImplementedError\(['\"](.*)['\"]\)", section)
    reason = declined.group(1) if skipped and declined else section.strip() or stderr.strip()
    return {"samples_s": None, "skipped": skipped, "reason": reason}


if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # asv's output goes to the log; only answers go to standard output
    ending = end_with_parent(request_file.parent)
    try:
        for answer in run(json.loads(request_file.read_text())):
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        while ending.is_set():
            time.sleep(1)
