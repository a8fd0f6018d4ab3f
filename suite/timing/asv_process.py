"""The process in which asv runs benchmarks: `python -m suite.timing.asv_process REQUEST`.

asv writes to standard output, and changes the environment of its own process.
"""

import itertools
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.environment import ExistingEnvironment
from asv.repo import NoRepository
from asv.runner import run_benchmarks


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
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # asv's output goes to the log; only answers go to standard output
    for answer in run(json.loads(Path(sys.argv[1]).read_text())):
        print(json.dumps(answer), file=answers, flush=True)
