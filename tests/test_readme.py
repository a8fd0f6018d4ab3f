import re

import pandas as pd

from tests.command import ROOT, TRAINED, call

README = (ROOT / "README.md").read_text()


def test_the_workload_of_the_readme_is_measured_as_it_stands(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(program.splitlines()) < 30
    (tmp_path / "diabetes.py").write_text(program)
    done = call("run", "diabetes.py", "--preset", "quick", *TRAINED, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert call("report", folder=tmp_path).returncode == 0
    table = pd.read_csv(tmp_path / "results" / "report" / "table.csv", index_col="claim")
    assert table.loc["gradient", "verdict"] == "holds"
    assert set(table["status"]) <= {"ok", "diverged", "target_not_reached"}


def test_every_command_of_the_readme_exists():
    for line in re.findall(r"^    suite (.*?)(?:  .*)?$", README, re.MULTILINE):
        command, *options = line.split()
        helped = call(command, "--help").stdout
        assert all(option in helped for option in options if option.startswith("--"))
