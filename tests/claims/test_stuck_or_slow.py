import math

import pandas as pd
import pytest

from suite.claims import rate_map, stuck_or_slow
from suite.training.tuning import FINAL, TRIAL
from tests.claims.evidence import FACTS, evidence


def standstill(further: float, left: float) -> pd.DataFrame:
    """Five seeds whose small batch ends at 0.1."""
    row = {
        "measurement": "standstill",
        "batch_size": 16,
        "updates": 9,
        "train_loss": 2.0,
        "initial_norm": 1.0,
        "gradient_norm": left,
        "small_updates": 120,
        "small_loss": 0.1,
        "smallest": -0.4,
        "largest": 0.7,
        "further_updates": 100,
        "further_loss": further,
        "status": "ok",
    }
    return pd.DataFrame([row | {"seed": seed} for seed in range(5)])


@pytest.mark.parametrize(
    ("further", "left", "said"),
    [
        (0.09, 0.9, "slow, not stuck"),
        (2.0, 0.001, "It was stuck"),
        (2.0, 0.9, "neither stuck nor only slow"),
        (0.09, 0.001, "slow, not stuck"),
    ],
)
def test_which_of_the_two_it_was(further, left, said):
    sentence = stuck_or_slow.sentence(evidence(standstill(further, left)))
    assert said in sentence
    assert f"{left:.2g} times its initial norm" in sentence
    assert "from -0.4 to 0.7" in sentence


def failed(measurement: str) -> pd.DataFrame:
    row = {"measurement": measurement, "batch_size": 16, "status": "out_of_memory", "reason": "too much"}
    return pd.DataFrame([row])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (standstill(1, 1).assign(status="diverged"), "5 of 5 seeds: diverged"),
        (standstill(1, 1).head(1), "of a single seed"),
        (failed("standstill"), "out of memory, too much"),
    ],
)
def test_it_says_why_it_cannot_tell(rows, why):
    assert stuck_or_slow.sentence(evidence(rows)) == f"Stuck or slow? That cannot be told ({why})."


def test_nothing_is_said_of_what_was_not_planned():
    assert stuck_or_slow.sentence(evidence(failed("training"))) == ""


def test_seeds_that_diverged_are_counted():
    rows = standstill(0.09, 0.9)
    rows.loc[3:, "status"] = "diverged"
    said = stuck_or_slow.sentence(evidence(rows))
    assert "as far in all 3 seeds. Seeds without a value are left out (2 of 5 seeds: diverged)." in said


def trials() -> pd.DataFrame:
    """At batch size 4 the rates 0.1 and 0.2, of which one trial of the latter diverged; at 16 only 0.1."""
    lines = [
        (4, 0.1, 0.5, "ok"),
        (4, 0.1, 2.0, "ok"),
        (4, 0.2, 0.3, "ok"),
        (4, 0.2, 9.0, "diverged"),
        (16, 0.1, 3.0, "ok"),
    ]
    columns = ["batch_size", "learning_rate", "train_loss", "status"]
    rows = pd.DataFrame(lines, columns=columns).assign(stage=TRIAL, protocol=rate_map.protocol(FACTS).key)
    final = rows.head(1).assign(stage=FINAL, train_loss=100.0)
    other = rows.head(1).assign(protocol="another", train_loss=100.0)
    return pd.concat([rows, final, other])


def test_the_map_has_the_mean_of_trials_alone_and_marks_what_diverged():
    table = rate_map.losses(evidence(trials()))
    assert table.loc[0.1, 4] == pytest.approx(1)
    assert table.loc[0.2, 4] == math.inf
    assert table.loc[0.1, 16] == pytest.approx(3)
    assert math.isnan(table.loc[0.2, 16])
    assert rate_map.draw(evidence(trials())) is not None


def test_without_trials_there_is_no_map():
    assert rate_map.draw(evidence(trials().assign(protocol="another"))) is None
