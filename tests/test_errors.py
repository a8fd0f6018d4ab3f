"""Exceptions in one line."""

import traceback

import pytest
from pydantic import ValidationError

from suite.errors import last_line, user_function, user_function_in
from tests.conftest import tiny


def problem(**changes) -> str:
    try:
        tiny(**changes)
    except ValidationError as error:
        return last_line(error)
    raise AssertionError("accepted")


def test_a_field_is_named_with_what_was_given_and_what_is_possible():
    assert problem(epochs=0) == "Workload: epochs is 0: it should be greater than or equal to 1"
    assert problem(batch_sizes=(1, 4, "16")) == "Workload: batch_sizes[2] is '16': it should be a valid integer"
    assert problem(epoch=3) == "Workload: there is no field 'epoch'"
    assert problem(small=16, large=4) == "Workload: small is 16 and large 4: small must be less"
    assert problem(name="a/b").startswith("Workload: name is 'a/b': use 1 to 64 letters, digits,")


def test_a_function_of_a_users_is_named_with_its_place(tmp_path):
    """Read off a traceback here, or off one that another process printed."""
    path = tmp_path / "mine.py"
    path.write_text("def forward():\n    return [][0]\n")
    space = {}
    exec(compile(path.read_text(), path, "exec"), space)
    with pytest.raises(IndexError) as raised:
        space["forward"]()
    printed = "".join(traceback.format_exception(raised.value))
    assert user_function(raised.value) == "forward in mine.py, line 2,"
    assert user_function_in(printed) == "forward in mine.py, line 2,"


def test_an_error_whose_message_fails_has_its_type():
    class BadMessage(Exception):
        def __str__(self):
            raise ValueError("no message")

    assert last_line(BadMessage()) == "BadMessage"
