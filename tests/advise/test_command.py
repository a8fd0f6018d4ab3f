import json

import pytest

from tests.command import assert_refused, call_here
from tests.conftest import cuda


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["no workload 'nonsense'", "digits", "Python file"]),
        (["nonsense.py"], ["no workload file nonsense.py"]),
        (["--backend", "gpu"], ["no backend 'gpu'", "sequential, cpu, cuda"]),
        (["--seeds", "1"], ["--seeds 1", "2 or more"]),
        (["--seeds", "many"], ["--seeds"]),
        (["--nonsense"], ["No such option"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, words, tmp_path):
    assert_refused(call_here("advise", *arguments, "--results", tmp_path / "results"), *words)
    assert not (tmp_path / "results").exists()


def test_a_backend_that_is_not_there_is_named(tmp_path, own_workload, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = call_here("advise", own_workload, "--backend", "cuda", "--results", tmp_path / "results")
    assert_refused(done, "backend cuda", "no CUDA device", "--backend")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, own_workload):
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


def test_json_is_all_that_is_printed_when_asked_for(tmp_path, own_workload):
    done = call_here("advise", own_workload, "--seeds", "2", "--json", "--no-verify", "--results", tmp_path)
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "advise" / "tiny" / "advice.json").read_text())
    assert printed["status"] == "ok"
    assert printed["verification"] == "none"
