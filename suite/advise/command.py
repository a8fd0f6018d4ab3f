"""`suite advise`: from a workload's name to the printed and stored answer."""

import json
import sys
import time
from pathlib import Path

from suite.advise.advisor import Advice, advise
from suite.advise.answer import to_dict
from suite.advise.figure import draw
from suite.advise.timing import batch_sizes, threads_for, time_updates
from suite.advise.training import Replicas
from suite.backends import BACKENDS
from suite.errors import UserError
from suite.report.style import save, style
from suite.results import Results
from suite.workloads import find
from suite.workloads.check import load_checked

FIGURE, ANSWER = "advice", "advice.json"


def advise_on(source: str, backend_name: str, seeds: int, check: bool, folder: Path, as_json: bool) -> None:
    """Print the advice on the workload `source`, and store it with its figure below `folder`/advise/. Raises
    UserError where the workload, the backend or the folder cannot be used."""
    place = folder / "advise" / find(source).name
    with Results(folder).writing():
        place.mkdir(parents=True, exist_ok=True)
    advice, facts = asked(source, backend_name, seeds, check)
    with Results(folder).writing():
        store(advice, facts, place)
    print(json.dumps(facts, indent=1) if as_json else "\n".join(facts["in_words"]))
    say(f"{facts['advisor_s']:.0f} s; written to {place}")


def asked(source: str, backend_name: str, seeds: int, check: bool) -> tuple[Advice, dict]:
    """The advice, and as JSON has it, with the seconds that it took."""
    started = time.monotonic()
    backend, workload = BACKENDS[backend_name], find(source)
    if reason := backend.unavailable():
        raise UserError(f"backend {backend_name}: {reason}; choose another with --backend")
    data = load_checked(workload)
    sizes = batch_sizes(len(data.train_inputs))
    say(f"timing updates of {len(sizes)} batch sizes of {workload.name} on {backend_name}")
    threads = threads_for(workload, data, backend)
    timings = time_updates(workload, data, backend, threads, sizes)
    advice = advise(Replicas(workload, data, backend, seeds, threads), timings, check, say)
    spent_s = time.monotonic() - started
    return advice, to_dict(advice, workload.name, backend_name, threads, workload.target_loss, spent_s)


def say(what: str) -> None:
    """What is being done, on stderr."""
    print(what, file=sys.stderr, flush=True)


def store(advice: Advice, facts: dict, place: Path) -> None:
    """Write an advice into the folder `place`: as JSON, and as a figure where there is one."""
    (place / ANSWER).write_text(json.dumps(facts, indent=1) + "\n")
    if advice.recommendation:
        with style():
            save(draw(advice, facts["workload"], facts["backend"], facts["target_loss"]), place, FIGURE)
