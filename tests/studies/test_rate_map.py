import pandas as pd
import pytest

from suite.experiments.cell import Scope
from suite.experiments.tuned_training import FINAL, TRIAL
from suite.studies.rate_map import analyse, study, tuned_protocol
from tests.conftest import tiny
from tests.evidence import FACTS, evidence

FULL = {"backends": ("cpu",), "training_backend": "cpu", "factorial": True}
COLUMNS = ["batch_size", "learning_rate", "train_loss", "status"]


def tuned(lines: list[tuple]) -> pd.DataFrame:
    """Trials, each a batch size, a learning rate, a final loss and a status."""
    rows = pd.DataFrame(lines, columns=COLUMNS).assign(stage=TRIAL, protocol=tuned_protocol(FACTS).key)
    final = rows.head(1).assign(stage=FINAL, train_loss=100.0)
    another = rows.head(1).assign(protocol="another", train_loss=100.0)
    return pd.concat([rows, final, another])


TRIALS = tuned(
    [
        (4, 0.1, 0.5, "ok"),
        (4, 0.1, 2.0, "ok"),
        (4, 0.2, 0.3, "ok"),
        (4, 0.2, 9.0, "diverged"),
        (16, 0.1, 3.0, "ok"),
    ]
)
"""At batch size 4 the rates 0.1 and 0.2, of which a trial of the latter diverged; at 16 only 0.1."""


def test_the_map_has_the_geometric_mean_of_trials_alone_and_the_rates_that_diverged():
    findings = analyse(evidence(TRIALS))
    at_4, at_16 = findings.trials[4], findings.trials[16]
    assert at_4.losses == {0.1: pytest.approx(1)}
    assert at_4.diverged == (0.2,)
    assert at_16.losses == {0.1: pytest.approx(3)}
    assert at_16.diverged == ()
    assert findings.problems == ()
    axes, colours = study.figure(findings).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "16"]
    assert colours.get_ylabel() == "training loss after 3 epochs"


def test_the_best_rate_has_the_lowest_loss_and_usable_rates_at_most_one_and_a_half_times_that():
    lines = [(1, 0.1, 1.51, "ok"), (1, 0.2, 1.0, "ok"), (1, 0.4, 1.5, "ok"), (1, 0.8, 0.1, "diverged")]
    findings = analyse(evidence(tuned([*lines, (16, 0.8, 2.0, "ok")])))
    assert (findings.trials[1].best, findings.trials[1].usable) == (0.2, (0.2, 0.4))
    assert list(findings.trials[1].losses) == [0.1, 0.2, 0.4]
    assert "0.2 at batch size 1 and 0.8 at batch size 16" in study.answer(findings)
    assert "0.2 to 0.4 at batch size 1 and only 0.8 at batch size 16" in study.explain(findings)


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_losses_that_are_not_positive_are_on_no_map(loss):
    findings = analyse(evidence(tuned([(1, 0.1, loss, "ok"), (1, 0.2, 1.0, "ok")])))
    assert study.figure(findings) is None
    assert "loss not positive at batch size 1" in study.answer(findings)


def test_without_trials_there_is_no_map():
    findings = analyse(evidence(TRIALS.assign(protocol="another")))
    assert study.figure(findings) is None
    assert "not measured" in study.answer(findings)
    assert study.explain(findings) == ""


def test_where_a_trial_diverged_at_every_rate_there_is_no_best_rate():
    findings = analyse(evidence(tuned([(1, 0.1, 9.0, "diverged"), (1, 0.2, 9.0, "diverged")])))
    assert findings.trials[1].best is None
    assert study.figure(findings) is None
    assert "diverged" in study.answer(findings)


def test_a_batch_size_without_trials_is_named_with_the_reason():
    failure = {
        "batch_size": 1,
        "status": "out_of_memory",
        "reason": "too much",
        "protocol": tuned_protocol(FACTS).key,
    }
    findings = analyse(evidence(TRIALS, pd.DataFrame([failure])))
    assert list(findings.trials) == [4, 16]
    assert [problem.status for problem in findings.problems] == ["out_of_memory"]
    assert "too much at batch size 1" in study.explain(findings)
    alone = analyse(evidence(pd.DataFrame([failure])))
    assert "too much at batch size 1" in study.answer(alone)


def test_every_batch_size_is_tuned_in_a_factorial_scope_alone():
    cells = study.cells(tiny(), Scope((1, 4, 16), (1, 16), (1, 4, 16), 5, 1, **FULL))
    assert [cell.batch_size for cell in cells] == [1, 4, 16]
    assert {str(cell.protocol) for cell in cells} == {"SGD, tuned rate, 3 epochs"}
    assert study.cells(tiny(), Scope((1, 4, 16), (1, 16), (1, 4, 16), 5, 1, **(FULL | {"factorial": False}))) == []
