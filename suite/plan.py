"""What a run has to measure: the cells of the chosen claims, and where each is stored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from warnings import warn

from suite.backends import BACKENDS, CPU, training_backend
from suite.cells import NO_BATCH_SIZE, Cell, Scope, key_of
from suite.claims import Claim, Facts, all_claims
from suite.errors import UserError
from suite.quick_timings import THREADS
from suite.training.engine import ENGINES, packed, why_not_ensemble
from suite.workloads import Data, Workload, find, fingerprint
from suite.workloads.check import load_checked


@dataclass(frozen=True)
class Preset:
    """How thoroughly to measure."""

    seeds: int
    processes: int
    every: int
    """Every how many of the workload's batch sizes are measured; Small and Large always are."""
    coarse_every: int
    """Every how many of those are measured where it is slow."""
    factorial: bool = False
    """Whether every learning-rate rule is crossed with every budget."""

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
    """Those of `batch_sizes` that the workload names; else every so many of them, the middle and the last."""
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

    @property
    def key(self) -> str:
        return key_of(self.key_fields)


@dataclass(frozen=True)
class WorkloadPlan:
    """Everything to measure of one workload."""

    source: str
    facts: Facts
    by_claim: dict[str, list[Planned]]
    threads: Planned

    def planned(self) -> list[Planned]:
        """Every cell once; the thread count first where something is timed."""
        unique = {planned.key: planned for cells in self.by_claim.values() for planned in cells}
        timed = any(planned.cell.measurement.timed for planned in unique.values())
        return [*([self.threads] if timed else []), *unique.values()]

    def manifest(self) -> dict:
        return {
            "facts": self.facts.to_dict(),
            "fingerprint": self.threads.key_fields["fingerprint"],
            "claims": {
                name: [{"key": planned.key, **planned.cell.describe()} for planned in cells]
                for name, cells in self.by_claim.items()
            },
        }


def plan_all(sources: list[str], claims: list[Claim], *how) -> list[WorkloadPlan]:
    """Plan each of `sources` as `plan` does, once. Raises UserError too when two are called the same, or when there
    is nothing to measure."""
    plans = {source: plan(source, claims, *how) for source in sources}
    known = {}
    for source, planned in plans.items():
        if (other := known.setdefault(planned.facts.name, source)) != source:
            raise UserError(f"{other} and {source} are both called '{planned.facts.name}': rename one of them")
    if not any(planned.planned() for planned in plans.values()):
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
    workload, data, _ = _known(source)
    claims = claims or [claim for claim in all_claims() if workload.claims is None or claim.name in workload.claims]
    fit = [claim for claim in claims if claim.unfit(workload) is None]
    for claim in claims:
        if claim not in fit:
            warn(f"{workload.name} has no row '{claim.title}': {claim.unfit(workload)}", stacklevel=2)
    scope = preset.scope(workload, seeds_asked, backends)

    def keyed(cell: Cell) -> Planned:
        of_cell = source if cell.workload == workload.name else cell.workload
        known, _, print_of = _known(of_cell)
        if cell.measurement.trains and engine == "ensemble" and _fits_ensemble(of_cell):
            cell = packed(cell, known)
        fields = cell.key_fields(print_of, BACKENDS[cell.backend].device, known.base_seed)
        return Planned(cell, fields, of_cell)

    return WorkloadPlan(
        source=source,
        facts=Facts.of(workload, data),
        by_claim={claim.name: [keyed(cell) for cell in claim.cells(workload, scope)] for claim in fit},
        threads=keyed(_threads_cell(workload)),
    )


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
def _known(source: str) -> tuple[Workload, Data, str]:
    """A workload, its checked data, and its fingerprint."""
    workload = find(source)
    data = load_checked(workload)
    return workload, data, fingerprint(workload, data)


@cache
def _fits_ensemble(source: str) -> bool:
    """Whether a workload can be trained as an ensemble. Warns when it cannot."""
    workload, data, _ = _known(source)
    reason = why_not_ensemble(workload, data)
    if reason:
        warn(f"{workload.name} is trained one replica after another, not as an ensemble: {reason}", stacklevel=2)
    return reason is None


def default_workers(plans: list[WorkloadPlan]) -> int:
    """One a core; one where an accelerator trains, whose memory they would share."""
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
    """The named backends, whether available or not; when none is named, all that are. Raises UserError for an unknown
    one."""
    for name in names:
        if name not in BACKENDS:
            raise UserError(f"no backend '{name}': choose from {', '.join(BACKENDS)}")
    if not names:
        return tuple(name for name, backend in BACKENDS.items() if backend.unavailable() is None)
    return tuple(name for name in BACKENDS if name in names)
