"""Trainings run on the fastest backend that is available and named; the toys always on the CPU."""

import pandas as pd
import pytest

from suite.backends import ACCELERATORS
from suite.claims import all_claims, find
from suite.devices import Accelerator
from suite.evidence import Evidence
from suite.experiments.weighted_sum import WEIGHTED_SUM
from suite.runs.plan import PRESETS, Planned, WorkloadPlan, default_workers, find_backends, plan_all

ON_TRAININGS = {"gradient", "optimization", "generalization", "sharpness", "momentum_speed_up", "noise_scale"}
"""The claims that are judged by trainings of the workload; `momentum_sum` analyses its updates on the CPU."""
ACCELERATOR = ACCELERATORS[0]


@pytest.fixture
def accelerator(monkeypatch):
    """One accelerator is there, and no other."""
    absent = {backend.name for backend in ACCELERATORS} - {ACCELERATOR.name}
    monkeypatch.setattr(Accelerator, "unavailable", lambda device: "no such GPU" if device.type in absent else None)
    monkeypatch.setattr(Accelerator, "name", lambda device: "a GPU")
    return ACCELERATOR.name


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(Accelerator, "unavailable", lambda device: "no such GPU")


def plan_of(own_workload, backends: list[str], preset: str = "full") -> WorkloadPlan:
    (plan,) = plan_all([str(own_workload)], [], PRESETS[preset], find_backends(backends), None)
    return plan


def trainings(plan: WorkloadPlan) -> list[Planned]:
    """Of the workload itself."""
    cells = [
        planned
        for planned in plan.planned()
        if planned.cell.workload == "tiny" and not planned.cell.measurement.timed
    ]
    return [planned for planned in cells if planned.cell.measurement is not WEIGHTED_SUM]


def toys(plan: WorkloadPlan) -> list[Planned]:
    return [planned for planned in plan.planned() if planned.cell.workload != "tiny"]


def backends_of(cells: list[Planned]) -> set[tuple[str, str]]:
    """The backend of each cell, and the device that its key holds."""
    return {(planned.cell.backend, planned.key_fields["device"]) for planned in cells}


def rows_by_claim(plan: WorkloadPlan) -> dict[str, set[str]]:
    """The backends in the rows of each claim, as before anything is measured."""
    backends = {}
    for claim in all_claims():
        if cells := [planned.cell.describe() for planned in plan.by_claim[claim.name]]:
            rows = pd.DataFrame([cell | {"status": "unavailable", "reason": "not measured yet"} for cell in cells])
            findings = claim.analyse(Evidence.from_frames(plan.facts, [rows]))
            backends[claim.name] = {row.backend for row in claim.judge(findings)}
    return backends


def test_trainings_run_on_the_accelerator_where_there_is_one_and_rows_say_so(accelerator, own_workload):
    plan = plan_of(own_workload, [])
    assert backends_of(trainings(plan)) == {(accelerator, accelerator)}
    rows = rows_by_claim(plan)
    assert all(rows[name] == {accelerator} for name in ON_TRAININGS)
    assert rows["momentum_sum"] == {"cpu"}


def test_updates_are_timed_on_every_backend_there_is(accelerator, own_workload):
    timings = [planned for planned in plan_of(own_workload, []).planned() if planned.cell.measurement.timed]
    assert {planned.cell.backend for planned in timings} == {"sequential", "cpu", accelerator}
    assert {planned.key_fields["device"] for planned in timings if planned.cell.backend == accelerator} == {"a GPU"}


@pytest.mark.parametrize("backends", [["cpu"], ["sequential", "cpu"], ["sequential"]])
def test_trainings_run_on_the_cpu_where_the_accelerator_is_not_named(backends, accelerator, own_workload):
    plan = plan_of(own_workload, backends)
    assert backends_of(trainings(plan)) == {("cpu", "cpu")}
    rows = rows_by_claim(plan)
    assert all(rows[name] == {"cpu"} for name in ON_TRAININGS)


def test_trainings_run_on_the_cpu_where_there_is_no_accelerator(no_accelerator, own_workload):
    assert backends_of(trainings(plan_of(own_workload, []))) == {("cpu", "cpu")}


@pytest.mark.parametrize("backends", [[], ["cpu"], [ACCELERATOR.name]], ids=["none named", "cpu", "accelerator"])
def test_the_toys_stay_on_the_cpu(backends, accelerator, own_workload):
    plan = plan_of(own_workload, backends)
    assert {planned.cell.workload for planned in toys(plan)} == {"twenty", "ravine", "saddle", "ball"}
    assert backends_of(toys(plan)) == {("cpu", "cpu")}
    rows = rows_by_claim(plan)
    assert rows["plateau"] == rows["local_minimum"] == {"cpu"}


def test_a_training_has_another_key_on_another_kind_of_device(accelerator, own_workload):
    on_gpu, on_cpu = ({planned.key for planned in trainings(plan_of(own_workload, names))} for names in ([], ["cpu"]))
    assert on_gpu.isdisjoint(on_cpu)
    assert len(on_gpu) == len(on_cpu)


def test_trainings_on_an_accelerator_do_not_share_it(own_workload, accelerator, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert default_workers([plan_of(own_workload, [])]) == 1
    assert default_workers([plan_of(own_workload, ["cpu"])]) == 16


@pytest.mark.usefixtures("no_accelerator")
def test_a_row_that_the_optimizer_has_no_answer_for_is_named_beforehand(tmp_path, own_workload):
    file = tmp_path / "other.py"
    text = own_workload.read_text().replace('name="tiny"', 'name="other"')
    optimizer = "optimizer=Optimizer.of(torch.optim.Adadelta), epochs="
    file.write_text(
        text.replace("import torch\n", "import torch\nfrom suite.optimizers import Optimizer\n").replace(
            "epochs=", optimizer
        )
    )
    with pytest.warns(UserWarning, match="other has no row 'Movement': the suite does not know what momentum is in"):
        plan = plan_of(file, [])
    assert "momentum_sum" not in plan.by_claim
    assert plan.by_claim["optimization"]


def test_the_studies_of_a_claim_are_planned_with_it(own_workload):
    plan = plan_of(own_workload, ["cpu"])
    assert plan.by_study["stuck_or_slow"]
    assert set(plan.manifest()["studies"]) == set(plan.by_study)
    (only_gradient,) = plan_all([str(own_workload)], [find("gradient")], PRESETS["full"], ("cpu",), None)
    assert set(only_gradient.by_study) == {"twenty_examples"}
