"""Exceptions in one line."""

from pydantic import ValidationError

from suite.errors import last_line
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
