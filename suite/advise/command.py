"""`suite advise`: from a workload's name to the printed and stored answer."""

import json
import os
import sys
import time
from pathlib import Path

from suite import machine
from suite.advise.advisor import Advice, advise
from suite.advise.answer import ANSWER, to_dict
from suite.advise.figure import draw
from suite.advise.timing import batch_sizes, threads_for, time_updates
from suite.advise.training import Replicas
from suite.backends import BACKENDS, Backend, fastest
from suite.errors import UserError
from suite.report.style import save, style
from suite.results import SCHEMA_VERSION, Results
from suite.workloads import Data, Workload, find, fingerprint, names
from suite.workloads.check import load_checked

FIGURE = "advice"


def advise_on(source: str, backend_name: str | None, seeds: int, check: bool, folder: Path, as_json: bool) -> None:
    """Print the advice on the workload `source`, and store it with its figure below `folder`/advise/. Raises
    UserError where the workload, the backend or the folder cannot be used."""
    workload, data, backend = usable(source, backend_name)
    place, results = folder / "advise" / workload.name, Results(folder)
    with results.locked():
        advice, facts = asked(workload, data, backend, seeds, check)
        with results.writing():
            store(advice, facts, place)
    print(json.dumps(facts, indent=1) if as_json else "\n".join(facts["in_words"]))
    say(f"{facts['advisor_s']:.0f} s; written to {place}")


def usable(source: str, backend_name: str | None) -> tuple[Workload, Data, Backend]:
    """What is asked about, on the fastest backend unless one is named; raises UserError where there is no answer."""
    backend, workload = BACKENDS[backend_name] if backend_name else fastest(), find(source)
    if not workload.optimizer.plain_sgd:
        others = ", ".join(name for name in names() if find(name).optimizer.plain_sgd)
        raise UserError(
            f"workload {workload.name} is trained with {workload.optimizer}, and recommendations are known for SGD "
            f"without momentum alone: type `suite advise NAME` with one of {others}, or with the path of a Python "
            "file whose workload has optimizer=sgd()"
        )
    if reason := backend.unavailable():
        raise UserError(f"backend {backend.name}: {reason}; choose another with --backend")
    return workload, load_checked(workload), backend


def asked(workload: Workload, data: Data, backend: Backend, seeds: int, check: bool) -> tuple[Advice, dict]:
    """The advice, and as JSON has it, with the seconds that it took and what it was measured by and on."""
    started = time.monotonic()
    sizes = batch_sizes(len(data.train_inputs))
    say(f"timing updates of {len(sizes)} batch sizes of {workload.name} on {backend.name}")
    threads = threads_for(workload, data, backend)
    timings = time_updates(workload, data, backend, threads, sizes)
    advice = advise(Replicas(workload, data, backend, seeds, threads), timings, check, say)
    spent_s = time.monotonic() - started
    facts = to_dict(advice, workload.name, backend.name, threads, workload.target_loss, spent_s)
    provenance = {
        **machine.provenance(threads, spent_s),
        "fingerprint": fingerprint(workload, data),
        "base_seed": workload.base_seed,
    }
    return advice, {"schema_version": SCHEMA_VERSION, **facts, "provenance": provenance}


def say(what: str) -> None:
    """What is being done, on stderr."""
    print(what, file=sys.stderr, flush=True)


def store(advice: Advice, facts: dict, place: Path) -> None:
    """Write an advice into the folder `place`: as a figure where there is one, that of an earlier advice removed
    where there is none, and then as JSON, whole or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    if advice.recommendation:
        with style():
            save(draw(advice, facts["workload"], facts["backend"], facts["target_loss"]), place, FIGURE)
    else:
        for kind in ("svg", "png"):
            (place / f"{FIGURE}.{kind}").unlink(missing_ok=True)
    temporary = (place / ANSWER).with_suffix(".tmp")
    temporary.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(temporary, place / ANSWER)
