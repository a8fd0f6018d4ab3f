"""`suite advise`: from a workload's name to the printed and stored answer."""

import json
import sys
import time
from pathlib import Path

from suite.advise import answer
from suite.advise.advisor import Advice, advise
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
    started = time.monotonic()
    backend, workload = BACKENDS[backend_name], find(source)
    if reason := backend.unavailable():
        raise UserError(f"backend {backend_name}: {reason}; choose another with --backend")
    data = load_checked(workload)
    place = folder / "advise" / workload.name
    with Results(folder).writing():
        place.mkdir(parents=True, exist_ok=True)
    sizes = batch_sizes(len(data.train_inputs))
    say(f"timing updates of {workload.name} on {backend_name}, {len(sizes)} batch sizes")
    threads = threads_for(workload, data, backend)
    timings = time_updates(workload, data, backend, threads, sizes)
    trainer = Replicas(workload, data, backend, seeds, threads)
    found = advise(trainer, timings, check, say)
    spent_s = round(time.monotonic() - started, 3)
    facts = answer.to_dict(found, workload.name, backend_name, threads, workload.target_loss, spent_s)
    with Results(folder).writing():
        _store(found, facts, place)
    print(json.dumps(facts, indent=1) if as_json else "\n".join(facts["in_words"]))
    if found.recommendation:
        say(f"{spent_s:.0f} s; figure and numbers: {place / FIGURE}.svg, {FIGURE}.png, {ANSWER}")


def say(what: str) -> None:
    """What is being done, on stderr."""
    print(what, file=sys.stderr, flush=True)


def _store(advice: Advice, facts: dict, place: Path) -> None:
    (place / ANSWER).write_text(json.dumps(facts, indent=1) + "\n")
    if advice.recommendation:
        with style():
            save(draw(advice, facts["workload"], facts["backend"], facts["target_loss"]), place, FIGURE)
