"""The process in which asv runs one benchmark: `python -m suite.asv_process REQUEST ANSWER`.

asv starts processes of its own and saves only at its end, so it runs below a process that ends them all
when `suite run` dies: standard input is a pipe from there, and its end of file is the sign.
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
from pathlib import Path

import psutil
from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.environment import ExistingEnvironment
from asv.repo import NoRepository
from asv.runner import run_benchmarks

PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(scratch: Path) -> threading.Event:
    """As soon as standard input is closed, end every process below this one, remove `scratch`, and end.

    Returns the event that is set when this begins: a process that goes on to its own end would cut it short.
    """
    if sys.platform == "linux":
        # Orphans below become our children, so that none is missed.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ending = threading.Event()
    threading.Thread(target=_end_all_at_end_of_input, args=[scratch, ending], daemon=True).start()
    return ending


def _end_all_at_end_of_input(scratch: Path, ending: threading.Event) -> None:
    os.read(0, 1)
    ending.set()
    this = psutil.Process()
    while below := this.children(recursive=True):
        for process in below:
            process.kill()
        psutil.wait_procs(below, timeout=1)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def run(request: dict) -> list[dict]:
    """Have asv run one benchmark in this interpreter, each parameter combination in fresh processes.

    `request` holds `benchmark_dir`, `scratch`, `benchmark` (its full name), `parameters` (the combinations
    wanted), `processes` (how many for each) and `launch_method`. The answer has an entry a combination, in
    order: `samples_s` (seconds, those of one process after another) or, where there are none, `skipped`
    (whether the benchmark itself declined) and `reason`.
    """
    config = Config()
    config.project = "batch-size-suite"
    config.benchmark_dir = request["benchmark_dir"]
    config.env_dir = config.results_dir = config.html_dir = request["scratch"]
    config.environment_type, config.dvcs, config.branches = "existing", "none", []
    environment = ExistingEnvironment(config, sys.executable, {}, {})

    name = request["benchmark"]
    benchmarks = Benchmarks.discover(config, NoRepository(), [environment], [None])
    benchmarks = benchmarks.filter_out(set(benchmarks) - {name})
    params = benchmarks[name]["params"]
    combinations = list(itertools.product(*params))
    wanted = [combinations.index(tuple(map(repr, values))) for values in request["parameters"]]
    benchmarks.benchmark_selection[name] = wanted

    results = run_benchmarks(
        benchmarks,
        environment,
        extra_params={"rounds": request["processes"]},
        record_samples=True,
        launch_method=request["launch_method"],
    )
    values = results.get_result_value(name, params)
    samples = results.get_result_samples(name, params)
    said = results.stderr.get(name, "")
    return [_entry(values[i], samples[i], said, combinations[i]) for i in wanted]


def _entry(value: float | None, samples: list[float] | None, said: str, combination: tuple[str, ...]) -> dict:
    if samples:
        return {"samples_s": samples}
    about = said.partition(f"For parameters: {', '.join(combination)}\n")[2].partition("\n\nFor parameters:")[0]
    skipped = value is not None and math.isnan(value)
    declined = re.search(r"NotImplementedError\(['\"](.*)['\"]\)", about)
    reason = declined.group(1) if skipped and declined else about.strip() or said.strip()
    return {"samples_s": None, "skipped": skipped, "reason": reason}


if __name__ == "__main__":
    request_file, answer_file = map(Path, sys.argv[1:])
    ending = end_with_parent(request_file.parent)
    try:
        answer_file.write_text(json.dumps(run(json.loads(request_file.read_text()))))
    finally:
        while ending.is_set():
            time.sleep(1)
