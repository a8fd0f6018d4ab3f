import numpy as np
import pandas as pd
import pytest

from suite.evidence import Problem
from suite.status import Status
from suite.studies import escapes
from tests.conftest import tiny
from tests.evidence import evidence

CELLS = {cell.batch_size: cell for cell in escapes.cells(tiny(), scope=None)}


def times(batch_size: int, updates: list[float]) -> pd.DataFrame:
    """A ball for each of `updates`; infinite ones did not escape."""
    status = ["ok" if np.isfinite(value) else "target_not_reached" for value in updates]
    rows = pd.DataFrame({"seed": range(len(updates)), "updates": updates, "status": status})
    return rows.assign(**CELLS[batch_size].describe())


def test_escapes_that_took_too_long_leave_no_mean():
    """Of two batch sizes, one whose slowest ball did not escape: the mean of the others would be too low."""
    findings = escapes.analyse(evidence(times(1, [10.0, 20.0, 30.0]), times(2, [10.0, 20.0, np.inf])))
    assert list(findings.escapes) == [1]
    assert findings.escapes[1].updates.estimate == pytest.approx(20)
    assert findings.escapes[1].updates.n == 3
    assert findings.problems == (
        Problem(Status.TARGET_NOT_REACHED, replicas=1, all_replicas=3, where="at batch size 2"),
    )
    assert "after a mean of 20 updates at batch size 1." in escapes.answer(findings)
    text = escapes.explain(findings)
    assert "no mean where some balls did not escape (1 of 3 seeds at batch size 2: target not reached)." in text
    assert escapes.numbers(findings)["updates to escape"].tolist() == ["20"]


def test_the_answer_spans_the_batch_sizes():
    findings = escapes.analyse(evidence(*(times(size, [10.0 * size, 20.0 * size]) for size in (1, 2, 4))))
    assert "15 updates at batch size 1 and 60 updates at batch size 4" in escapes.answer(findings)


def test_larger_batches_escape_later_by_the_exact_time():
    """The integral for a small learning rate, at a batch size of 1: as in the report on the reference results."""
    assert escapes.exact_updates(1) == pytest.approx(519, abs=0.5)
    assert escapes.exact_updates(1) < escapes.exact_updates(2) < escapes.exact_updates(4)


@pytest.mark.filterwarnings("error")
def test_a_single_batch_size_is_drawn_without_a_warning():
    """As after a run that was killed: one cell is stored."""
    figure = escapes.figure(escapes.analyse(evidence(times(1, [10.0, 20.0, 30.0]))))
    assert figure.axes[0].get_legend() is not None


def test_without_a_measurement_there_is_no_figure_and_the_reason_is_given():
    absent = [cell.describe() | {"status": "unavailable", "reason": "no device"} for cell in CELLS.values()]
    findings = escapes.analyse(evidence(pd.DataFrame(absent)))
    assert findings.escapes == {}
    assert escapes.figure(findings) is None
    assert "no device" in escapes.answer(findings)
    assert escapes.explain(findings) == ""
    assert escapes.numbers(findings).empty
