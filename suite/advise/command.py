"""`suite advise`: from a workload's name to the printed and stored answer."""

import json
import sys
import time
from pathlib import Path

import torch

from suite import machine
from suite.advise.advisor import Recommendation, advise
from suite.advise.figure import draw
from suite.advise.stored_answer import ANSWER, to_dict
from suite.advise.timing import batch_sizes, threads_for, time_updates
from suite.advise.training import Replicas
from suite.backends import BACKENDS, Backend, fastest
from suite.errors import UserError
from suite.report.figure_style import save, style
from suite.runs.cell_file import SCHEMA_VERSION
from suite.runs.files import replace_whole
from suite.runs.guardian import guarded
from suite.runs.store import Results
from suite.workloads import Data, Workload, find, fingerprint, names
from suite.workloads.batch_of_one import trainable
from suite.workloads.check import load_checked

FIGURE = "advice"
"""The figure's file name, without its ending."""


def advise_on(
    source: str, backend_name: str | None, seeds: int, with_checks: bool, folder: Path, as_json: bool
) -> None:
    """Print the recommendation for the workload `source`, and store it with its figure in `folder`/advise/.

    Raises UserError where the workload, the backend or the folder cannot be used.
    """
    workload, data, backend = load_inputs(source, backend_name)
    place, results = folder / "advise" / workload.name, Results(folder)
    with results.locked(), guarded():
        recommendation, answer = recommend(workload, data, backend, seeds, with_checks)
        with results.writing():
            store(recommendation, answer, place)
    print(json.dumps(answer, indent=1) if as_json else "\n".join(answer["in_words"]))
    notify(f"{answer['advisor_s']:.0f} s; written to {place}")


def load_inputs(source: str, backend_name: str | None) -> tuple[Workload, Data, Backend]:
    """Load the workload `source`, its data and the backend, the fastest available unless it is named.

    Raises UserError where there is no recommendation for the workload, or the backend is not available.
    """
    backend, workload = BACKENDS[backend_name] if backend_name else fastest(), find(source)
    if not workload.optimizer.plain_sgd:
        supported = ", ".join(name for name in names() if find(name).optimizer.plain_sgd)
        raise UserError(
            f"workload {workload.name} is trained with {workload.optimizer}, but `suite advise` supports only SGD "
            f"without momentum: type `suite advise NAME` with one of {supported}, or with the path of a Python file "
            "whose workload has optimizer=sgd()"
        )
    if reason := backend.unavailable():
        raise UserError(f"backend {backend.name}: {reason}; choose another with --backend")
    return workload, load_checked(workload), backend


def recommend(
    workload: Workload, data: Data, backend: Backend, seeds: int, with_checks: bool
) -> tuple[Recommendation, dict]:
    """Return the recommendation, and its plain values with their provenance.

    Sets torch's number of threads to the one that suits the backend.
    """
    started = time.monotonic()
    sizes = trainable(workload, data, batch_sizes(len(data.train_inputs)))
    notify(f"timing updates of {workload.name} at {len(sizes)} batch sizes on {backend.name}")
    threads = threads_for(workload, data, backend)
    torch.set_num_threads(threads)
    timings = time_updates(workload, data, backend, threads, sizes)
    recommendation = advise(Replicas(workload, data, backend, seeds, threads), timings, with_checks, notify)
    spent_s = time.monotonic() - started
    answer = to_dict(recommendation, workload.name, backend.name, threads, workload.target_loss, spent_s)
    provenance = {
        **machine.provenance(threads, spent_s),
        "fingerprint": fingerprint(workload, data),
        "base_seed": workload.base_seed,
    }
    return recommendation, {"schema_version": SCHEMA_VERSION, **answer, "provenance": provenance}


def notify(step: str) -> None:
    """Print the current step on stderr."""
    print(step, file=sys.stderr, flush=True)


def store(recommendation: Recommendation, answer: dict, place: Path) -> None:
    """Write the figure and then, whole or not at all, the JSON file into the folder `place`.

    Where there is no choice there is no figure, and the figure of an earlier recommendation is removed.
    """
    place.mkdir(parents=True, exist_ok=True)
    if recommendation.choice:
        with style():
            save(draw(recommendation, answer["workload"], answer["backend"], answer["target_loss"]), place, FIGURE)
    else:
        for suffix in ("svg", "png"):
            (place / f"{FIGURE}.{suffix}").unlink(missing_ok=True)
    text = json.dumps(answer, indent=1) + "\n"
    replace_whole(place / ANSWER, lambda temporary: temporary.write_text(text))
