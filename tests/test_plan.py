"""Where trainings run: on the fastest backend that is available and asked for; the toys always on the CPU."""

import pandas as pd
import pytest

from suite.backends import ACCELERATORS
from suite.claims import Evidence, all_claims
from suite.devices import Accelerator
from suite.instruments.momentum import WEIGHTED_SUM
from suite.plan import PRESETS, Planned, WorkloadPlan, default_workers, find_backends, plan_all
from suite.report.sections import ALWAYS

ON_TRAININGS = {"gradient", "optimization", "generalization", "sharpness", "momentum_speed_up"}
"""The claims that are judged by trainings of the workload; `momentum_sum` takes its updates apart on the CPU."""
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


def planned(own_workload, backends: list[str], preset: str = "full") -> WorkloadPlan:
    (plan,) = plan_all([str(own_workload)], [], PRESETS[preset], find_backends(backends), None)
    return plan


def trainings(plan: WorkloadPlan) -> list[Planned]:
    """Of the workload itself."""
    cells = [one for one in plan.planned() if one.cell.workload == "tiny" and not one.cell.measurement.timed]
    return [one for one in cells if one.cell.measurement is not WEIGHTED_SUM]


def toys(plan: WorkloadPlan) -> list[Planned]:
    return [one for one in plan.planned() if one.cell.workload != "tiny"]


def backends_of(cells: list[Planned]) -> set[tuple[str, str]]:
    """The backend of each cell, and the device that its key holds."""
    return {(one.cell.backend, one.key_fields["device"]) for one in cells}


def rows_by_claim(plan: WorkloadPlan) -> dict[str, set[str]]:
    """The backends in the rows of each claim, as before anything is measured."""
    found = {}
    for claim in all_claims():
        if not (cells := [one.cell.describe() for one in plan.by_claim[claim.name]]):
            continue
        rows = pd.DataFrame([cell | {"status": "unavailable", "reason": "not measured yet"} for cell in cells])
        evidence = Evidence(plan.facts, rows.reindex(columns=dict.fromkeys([*rows, *ALWAYS])))
        found[claim.name] = {row.backend for row in claim.judge(evidence)}
    return found


def test_trainings_run_on_the_accelerator_where_there_is_one_and_rows_say_so(accelerator, own_workload):
    plan = planned(own_workload, [])
    assert backends_of(trainings(plan)) == {(accelerator, accelerator)}
    rows = rows_by_claim(plan)
    assert all(rows[name] == {accelerator} for name in ON_TRAININGS)
    assert rows["momentum_sum"] == {"cpu"}


def test_updates_are_timed_on_every_backend_there_is(accelerator, own_workload):
    timings = [one for one in planned(own_workload, []).planned() if one.cell.measurement.timed]
    assert {one.cell.backend for one in timings} == {"sequential", "cpu", accelerator}
    assert {one.key_fields["device"] for one in timings if one.cell.backend == accelerator} == {"a GPU"}


@pytest.mark.parametrize("backends", [["cpu"], ["sequential", "cpu"], ["sequential"]])
def test_trainings_run_on_the_cpu_where_the_accelerator_is_not_named(backends, accelerator, own_workload):
    plan = planned(own_workload, backends)
    assert backends_of(trainings(plan)) == {("cpu", "cpu")}
    rows = rows_by_claim(plan)
    assert all(rows[name] == {"cpu"} for name in ON_TRAININGS)


def test_trainings_run_on_the_cpu_where_there_is_no_accelerator(no_accelerator, own_workload):
    assert backends_of(trainings(planned(own_workload, []))) == {("cpu", "cpu")}


@pytest.mark.parametrize("backends", [[], ["cpu"], [ACCELERATOR.name]], ids=["none named", "cpu", "accelerator"])
def test_the_toys_stay_on_the_cpu(backends, accelerator, own_workload):
    plan = planned(own_workload, backends)
    assert {one.cell.workload for one in toys(plan)} == {"twenty", "ravine", "saddle", "ball"}
    assert backends_of(toys(plan)) == {("cpu", "cpu")}
    rows = rows_by_claim(plan)
    assert rows["plateau"] == rows["local_minimum"] == {"cpu"}


def test_a_training_has_another_key_on_another_kind_of_device(accelerator, own_workload):
    on_gpu, on_cpu = ({one.key for one in trainings(planned(own_workload, names))} for names in ([], ["cpu"]))
    assert on_gpu.isdisjoint(on_cpu)
    assert len(on_gpu) == len(on_cpu)


def test_trainings_on_an_accelerator_do_not_share_it(own_workload, accelerator, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert default_workers([planned(own_workload, [])]) == 1
    assert default_workers([planned(own_workload, ["cpu"])]) == 16


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
        plan = planned(file, [])
    assert "momentum_sum" not in plan.by_claim
    assert plan.by_claim["optimization"]
