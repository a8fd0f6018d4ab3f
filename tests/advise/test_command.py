import json
import os
import platform

import pytest

from suite import devices, machine
from suite.advise.command import load_inputs
from suite.backends import BACKENDS
from suite.runs.cell_file import SCHEMA_VERSION
from suite.runs.store import Results
from suite.workloads import find, fingerprint
from tests.command import assert_refused, call_here
from tests.conftest import cuda


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["no workload 'nonsense'", "digits", "Python file"]),
        (["nonsense.py"], ["no workload file nonsense.py"]),
        (
            ["keskar_f1"],
            ["keskar_f1 is trained with Adam", "only SGD without momentum", "`suite advise NAME`", "digits, mnist"],
        ),
        (["--backend", "gpu"], ["no backend 'gpu'", "sequential, cpu, cuda"]),
        (["--seeds", "1"], ["--seeds 1", "2 or more"]),
        (["--seeds", "many"], ["--seeds"]),
        (["--nonsense"], ["No such option"]),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_its_remedy(arguments, words, tmp_path):
    assert_refused(call_here("advise", *arguments, "--results", tmp_path / "results"), *words)
    assert not (tmp_path / "results").exists()


def test_an_unavailable_backend_is_named_in_the_error(tmp_path, own_workload, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = call_here("advise", own_workload, "--backend", "cuda", "--results", tmp_path / "results")
    assert_refused(done, "backend cuda", "no CUDA device", "--backend")


@pytest.mark.parametrize("fastest", ["cpu", "cuda"])
def test_the_default_is_the_fastest_backend(own_workload, monkeypatch, fastest):
    monkeypatch.setattr("suite.devices.fastest", lambda: devices.find(fastest))
    monkeypatch.setattr("suite.devices.Accelerator.unavailable", lambda device: None)
    assert load_inputs(str(own_workload), None)[2] is BACKENDS[fastest]


def test_a_folder_that_cannot_be_written_is_named_in_the_error(tmp_path, own_workload):
    (tmp_path / "results").write_text("in the way")
    assert_refused(call_here("advise", own_workload, "--results", tmp_path / "results"), "cannot write", "--results")


@pytest.mark.parametrize("backend", ["cpu", pytest.param("cuda", marks=cuda)])
def test_the_answer_is_five_lines_a_figure_and_json(backend, tmp_path, own_workload):
    done = call_here("advise", own_workload, "--seeds", "2", "--backend", backend, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(",")[0] for line in lines[:2]] == ["Fastest", "Cheapest"]
    assert len(lines) == 5
    place = tmp_path / "advise" / "tiny"
    assert {file.name for file in place.iterdir()} == {"advice.json", "advice.svg", "advice.png"}
    stored = json.loads((place / "advice.json").read_text())
    assert stored["in_words"] == lines
    assert stored["advisor_s"] > 0
    assert stored["recommended"]["fastest"]["peak_bytes"] > 0


def test_with_json_only_json_is_printed(tmp_path, own_workload):
    done = call_here("advise", own_workload, "--seeds", "2", "--json", "--no-verify", "--results", tmp_path)
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "advise" / "tiny" / "advice.json").read_text())
    assert printed["status"] == "ok"
    assert printed["verification"] == "none"


UNSUPPORTED_OPTIMIZERS = {
    "sgd(momentum=0.9)": "SGD, momentum 0.9",
    "sgd(momentum=0.9, nesterov=True)": "SGD, momentum 0.9, nesterov True",
    "adamw()": "AdamW",
    "Optimizer.of(torch.optim.Adadelta)": "Adadelta",
}


@pytest.mark.parametrize(("optimizer", "words"), UNSUPPORTED_OPTIMIZERS.items())
def test_a_workload_with_an_unsupported_optimizer_is_refused(tmp_path, own_workload, optimizer, words):
    file = tmp_path / "with_optimizer.py"
    text = own_workload.read_text().replace("epochs=", f"optimizer={optimizer}, epochs=")
    file.write_text(f"from suite.optimizers import Optimizer, adamw, sgd\n{text}")
    done = call_here("advise", file, "--results", tmp_path / "results")
    assert_refused(done, f"workload tiny is trained with {words}, but", "has optimizer=sgd()")
    assert not (tmp_path / "results").exists()


def test_a_second_command_on_the_same_results_names_the_process_that_holds_them(tmp_path, own_workload):
    with Results(tmp_path).locked():
        done = call_here("advise", own_workload, "--seeds", "2", "--results", tmp_path)
    assert_refused(done, "is in use by process", "--results")
    assert not (tmp_path / "advise").exists()


def test_the_stored_answer_contains_its_provenance(tmp_path, own_workload):
    file = tmp_path / "seeded.py"
    file.write_text(own_workload.read_text().replace("epochs=", "base_seed=3, epochs="))
    call_here("advise", file, "--seeds", "2", "--no-verify", "--results", tmp_path)
    text = (tmp_path / "advise" / "tiny" / "advice.json").read_text()
    stored, workload = json.loads(text), find(str(file))
    assert stored["schema_version"] == SCHEMA_VERSION
    provenance = stored["provenance"]
    assert {name: provenance[name] for name in machine.describe()} == machine.describe()
    assert provenance["fingerprint"] == fingerprint(workload, workload.load())
    assert provenance["base_seed"] == workload.base_seed == 3
    assert provenance["threads"] == stored["threads"]
    assert provenance["duration_s"] > 0
    for private in (platform.node(), str(tmp_path)):
        assert private not in text


def test_a_failed_write_leaves_the_earlier_answer(tmp_path, own_workload, monkeypatch):
    place = tmp_path / "advise" / "tiny"
    place.mkdir(parents=True)
    (place / "advice.json").write_text("old")

    def disk_full(source, target):
        assert json.loads(source.read_text())["status"] == "ok"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    done = call_here("advise", own_workload, "--seeds", "2", "--no-verify", "--results", tmp_path)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert (place / "advice.json").read_text() == "old"
