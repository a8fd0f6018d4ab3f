import pytest

from suite.errors import UserError
from suite.workloads import find, names


def test_every_workload_of_the_suite_is_found_by_its_name():
    assert "digits" in names()
    assert [find(name).name for name in names()] == names()


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UserError, match=r"no workload 'nope': choose from .*digits.*path of a Python file"):
        find("nope")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no workload file"),
        ("import nonsense_that_is_not_there", "does not run: ModuleNotFoundError"),
        ("def broken(:", "does not run: SyntaxError"),
        ("1 / 0", "does not run: ZeroDivisionError"),
        ("workloads = 3", "holds no workload"),
        ("workload = 3", "holds no workload"),
        ("from suite.workloads.digits import workload", "the name 'digits' is taken"),
        ("from suite.workloads import Workload\nworkload = Workload('x')", "does not run: TypeError"),
    ],
)
def test_a_file_that_holds_no_workload_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        find(str(path))
    assert "\n" not in str(error.value)
