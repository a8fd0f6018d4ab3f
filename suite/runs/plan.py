"""What a run has to measure: the cells of the chosen claims, and where each is stored."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from warnings import warn

from suite.backends import BACKENDS, CPU, training_backend
from suite.claims import Claim, all_claims
from suite.claims import find as find_claim
from suite.errors import UserError
from suite.evidence import Facts
from suite.experiments.cell import NO_BATCH_SIZE, Cell, Scope, key_of
from suite.studies import studies_of
from suite.timing.quick_timings import THREADS
from suite.training.engine import best_replicas_per_call, why_not_ensemble
from suite.workloads import Data, Workload, find, fingerprint
from suite.workloads.check import load_checked
from suite.workloads.fingerprint import data_fingerprint

ENGINES = ("ensemble", "plain")


@dataclass(frozen=True)
class Preset:
    """How thoroughly to measure."""

    seeds: int
    processes: int
    every: int
    """Measures every n-th of the workload's batch sizes; Small and Large always."""
    coarse_every: int
    """Measures every n-th of those where measuring is slow."""
    factorial: bool = False
    """Whether every learning-rate rule is combined with every budget."""

    def scope(self, workload: Workload, seeds_asked: int | None, backends: tuple[str, ...]) -> Scope:
        batch_sizes = _thinned(workload, workload.batch_sizes, self.every)
        return Scope(
            batch_sizes=batch_sizes,
            coarse_batch_sizes=_thinned(workload, batch_sizes, self.coarse_every),
            training_batch_sizes=_trained(workload, batch_sizes, self.coarse_every),
            seeds=seeds_asked or self.seeds,
            processes=self.processes,
            backends=backends,
            training_backend=training_backend(backends).name,
            factorial=self.factorial,
        )


def _thinned(workload: Workload, batch_sizes: tuple[int, ...], every: int) -> tuple[int, ...]:
    return tuple(sorted({*batch_sizes[::every], workload.small, workload.large}))


def _trained(workload: Workload, batch_sizes: tuple[int, ...], every: int) -> tuple[int, ...]:
    """Those of `batch_sizes` that the workload names; else every n-th of them, the middle and the last."""
    chosen = workload.training_batch_sizes or {
        *_thinned(workload, batch_sizes, every),
        workload.middle,
        batch_sizes[-1],
    }
    return tuple(size for size in batch_sizes if size in chosen)


PRESETS = {
    "quick": Preset(seeds=3, processes=2, every=3, coarse_every=1),
    "default": Preset(seeds=30, processes=6, every=1, coarse_every=2),
    "full": Preset(seeds=50, processes=15, every=1, coarse_every=1, factorial=True),
}


@dataclass(frozen=True)
class Planned:
    """A cell, and the key under which it is stored."""

    cell: Cell
    key_fields: dict
    """`Cell.key_fields`."""
    source: str
    """Name or path by which another process finds the cell's workload."""
    data_hash: str
    """Of the workload's examples."""

    @property
    def key(self) -> str:
        return key_of(self.key_fields)


@dataclass(frozen=True)
class WorkloadPlan:
    """Everything to measure of one workload."""

    source: str
    facts: Facts
    by_claim: dict[str, list[Planned]]
    by_study: dict[str, list[Planned]]
    """Of the studies under those claims."""
    threads: Planned

    def planned(self) -> list[Planned]:
        """Every cell once; the thread count first where something is timed."""
        groups = (*self.by_claim.values(), *self.by_study.values())
        unique = {planned.key: planned for cells in groups for planned in cells}
        timed = any(planned.cell.measurement.timed for planned in unique.values())
        return [*([self.threads] if timed else []), *unique.values()]

    def manifest(self) -> dict:
        """As the results folder stores it."""
        return {
            "facts": self.facts.to_dict(),
            "fingerprint": self.threads.key_fields["fingerprint"],
            "claims": {name: _described(cells) for name, cells in self.by_claim.items()},
            "studies": {name: _described(cells) for name, cells in self.by_study.items()},
        }


def _described(cells: list[Planned]) -> list[dict]:
    return [{"key": planned.key, **planned.cell.describe()} for planned in cells]


def plan_all(sources: list[str], claims: list[Claim], *options) -> list[WorkloadPlan]:
    """Plan each of `sources` as `plan` does, once. Raises UserError also when two workloads have the same name, or
    when there is nothing to measure."""
    plans = {source: plan(source, claims, *options) for source in sources}
    known = {}
    for source, workload_plan in plans.items():
        if (namesake := known.setdefault(workload_plan.facts.name, source)) != source:
            raise UserError(
                f"{namesake} and {source} are both called '{workload_plan.facts.name}': rename one of them"
            )
    if not any(workload_plan.planned() for workload_plan in plans.values()):
        raise UserError(
            "nothing to measure: no claim chosen has a cell on these backends with this optimizer; name more with "
            "--claim or --backend"
        )
    return list(plans.values())


def plan(
    source: str,
    claims: list[Claim],
    preset: Preset,
    backends: tuple[str, ...],
    seeds_asked: int | None,
    engine: str = "ensemble",
) -> WorkloadPlan:
    """Plan one workload: check it and load it once, and ask each claim for its cells.

    Without `claims`, those that the workload names. Raises UserError when the workload is not fit to measure.
    """
    workload, data, *_ = _load(source)
    claims = claims or _claims_of(workload)
    fit = [claim for claim in claims if claim.unfit(workload) is None]
    for claim in claims:
        if claim not in fit:
            warn(f"{workload.name} has no row '{claim.title}': {claim.unfit(workload)}", stacklevel=2)
    scope = preset.scope(workload, seeds_asked, backends)

    def keyed(cell: Cell) -> Planned:
        cell_source = source if cell.workload == workload.name else cell.workload
        cell_workload, _, cell_fingerprint, data_hash = _load(cell_source)
        if cell.measurement.trains and engine == "ensemble" and _fits_ensemble(cell_source):
            cell = replace(cell, replicas_per_call=_replicas_per_call(cell, cell_workload))
        fields = cell.key_fields(cell_fingerprint, BACKENDS[cell.backend].device, cell_workload.base_seed)
        return Planned(cell, fields, cell_source, data_hash)

    studies = [study for claim in fit for study in studies_of(claim.name)]
    return WorkloadPlan(
        source=source,
        facts=Facts.of(workload, data),
        by_claim={claim.name: [keyed(cell) for cell in claim.cells(workload, scope)] for claim in fit},
        by_study={study.name: [keyed(cell) for cell in study.cells(workload, scope)] for study in studies},
        threads=keyed(_threads_cell(workload)),
    )


def _claims_of(workload: Workload) -> list[Claim]:
    if workload.claims is None:
        return all_claims()
    try:
        return [find_claim(name) for name in workload.claims]
    except UserError as error:
        raise UserError(f"workload {workload.name}: {error}") from error


def _replicas_per_call(cell: Cell, workload: Workload) -> int:
    return best_replicas_per_call(workload, BACKENDS[cell.backend].device, cell.repeats, cell.batch_size)


def _threads_cell(workload: Workload) -> Cell:
    """The number of threads that suits the CPU."""
    return Cell(
        THREADS,
        workload.name,
        CPU.name,
        NO_BATCH_SIZE,
        repeats=1,
        optimizer=workload.optimizer,
        batch_sizes=workload.batch_sizes,
    )


@cache
def _load(source: str) -> tuple[Workload, Data, str, str]:
    """A workload, its checked data, its fingerprint, and that of the data."""
    workload = find(source)
    data = load_checked(workload)
    return workload, data, fingerprint(workload, data), data_fingerprint(data)


@cache
def _fits_ensemble(source: str) -> bool:
    """Whether a workload can be trained as an ensemble. Warns when it cannot."""
    workload, data, *_ = _load(source)
    reason = why_not_ensemble(workload, data)
    if reason:
        warn(f"{workload.name} is trained one replica after another, not as an ensemble: {reason}", stacklevel=2)
    return reason is None


def default_workers(plans: list[WorkloadPlan]) -> int:
    """One per core; a single one where an accelerator trains, whose memory they would share."""
    backends = {planned.cell.backend for plan in plans for planned in plan.planned() if planned.cell.protocol}
    accelerated = any(BACKENDS[name].device.is_accelerator for name in backends)
    return 1 if accelerated else os.cpu_count() or 1


def find_engine(name: str) -> str:
    if name not in ENGINES:
        raise UserError(f"no engine '{name}': choose from {', '.join(ENGINES)}")
    return name


def find_preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UserError(f"no preset '{name}': choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def find_backends(names: list[str]) -> tuple[str, ...]:
    """The named backends, whether available or not; all available ones where none is named. Raises UserError for an
    unknown name."""
    for name in names:
        if name not in BACKENDS:
            raise UserError(f"no backend '{name}': choose from {', '.join(BACKENDS)}")
    if not names:
        return tuple(name for name, backend in BACKENDS.items() if backend.unavailable() is None)
    return tuple(name for name in BACKENDS if name in names)
