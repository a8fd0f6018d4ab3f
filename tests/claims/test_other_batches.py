"""What a rate that decays, a batch that grows and batches drawn with replacement would do, from made-up rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.cells import Scope
from suite.claims import decay_or_grow, sampling
from suite.claims.decay_or_grow import CONSTANT, DECAY, GROW
from suite.claims.sampling import REPLACED, RESHUFFLED
from suite.training.protocol import GrowingBatch
from tests.claims.evidence import FACTS, evidence
from tests.conftest import tiny

SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), 5, 1, backends=("cpu",), training_backend="cpu", factorial=True)
STARTS = (1, 4)
"""Small and the middle batch size."""


def trained(protocol, losses: list[float], size: int, updates: int = 10, status: str = "ok") -> pd.DataFrame:
    """Two looks at each seed: at the start, and at the end with its training loss."""
    lines = [
        {"seed": seed, "updates": look * updates, "epoch": 3 * look, "train_loss": loss if look else 2.0}
        for seed, loss in enumerate(losses)
        for look in (0, 1)
    ]
    return pd.DataFrame(lines).assign(protocol=protocol.key, batch_size=size, status=status, test_score=0.8)


def decayed_or_grown(grown: list[float], status: str = "ok") -> list[pd.DataFrame]:
    of = decay_or_grow.protocols(FACTS)
    return [
        rows
        for size in STARTS
        for rows in (
            trained(of[CONSTANT], [1.0, 1.0, 1.0], size),
            trained(of[DECAY], [0.5, 0.5, 0.5], size),
            trained(of[GROW], grown, size, updates=6, status=status),
        )
    ]


def test_both_are_compared_in_pairs_and_with_what_neither_does():
    said = decay_or_grow.sentence(evidence(*decayed_or_grown([0.5, 0.51, 0.52])))
    logs = np.log([1.0, 1.02, 1.04])
    low, high = np.exp(stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs)))
    assert f"From batch size 1 the growing batch ends at ×{np.exp(logs.mean()):.3f} ({low:.3f} to {high:.3f})" in said
    assert f"with 6 updates instead of 10: they agree to within {high - 1:.1%}" in said
    assert "changed the loss by ×0.500" in said
    assert "After 1 and 2 epochs" in said


def test_nothing_is_compared_with_what_diverged_or_was_not_measured():
    said = decay_or_grow.sentence(evidence(*decayed_or_grown([0.5] * 3, "diverged")))
    assert "cannot be compared: 3 of 3 seeds where batch grows: diverged" in said
    failure = {"protocol": decay_or_grow.protocols(FACTS)[GROW].key, "status": "out_of_memory", "reason": "too much"}
    failed = pd.DataFrame([failure | {"batch_size": size} for size in STARTS])
    rows = [one for one in decayed_or_grown([0.5] * 3) if (one["updates"].max() > 6)]
    said = decay_or_grow.sentence(evidence(*rows, failed))
    assert "From batch size 1 they cannot be compared: out of memory where batch grows, too much." in said
    some = evidence(*decayed_or_grown([0.5] * 3)[:2])
    assert decay_or_grow.sentence(some) == ""
    assert decay_or_grow.draw(some) is None


def test_a_batch_grows_only_where_it_stays_among_the_workloads():
    """From 1 to 4; from 4 to 16, but where 8 is the largest it may not."""
    sizes = {cell.batch_size for cell in decay_or_grow.cells(tiny(), SCOPE)}
    assert sizes == {1, 4}
    smaller = tiny(batch_sizes=(1, 4, 8), large=8)
    assert {cell.batch_size for cell in decay_or_grow.cells(smaller, SCOPE)} == {1}
    assert decay_or_grow.cells(tiny(), replace(SCOPE, factorial=False)) == []


def test_rate_over_batch_size_falls_alike():
    """After every change, at each start."""
    of = decay_or_grow.protocols(tiny(epochs=10))
    assert decay_or_grow.changes(10) == (3, 6, 8)
    for epoch in range(10):
        grown = of[GROW].batch_size(4, epoch)
        assert of[DECAY].rate(40, 4, 10 * epoch) / 4 == pytest.approx(of[GROW].learning_rate / grown)
    assert isinstance(of[GROW].budget, GrowingBatch)


def test_in_a_single_epoch_nothing_can_change():
    assert decay_or_grow.protocols(tiny(epochs=1)) == {}
    assert decay_or_grow.cells(tiny(epochs=1), SCOPE) == []
    assert sampling.cells(tiny(epochs=1), SCOPE) == []
    single = replace(evidence(*decayed_or_grown([0.5] * 3)), facts=replace(FACTS, epochs=1))
    assert decay_or_grow.sentence(single) == sampling.sentence(single) == ""


def replaced(losses: list[float], size: int = 1) -> list[pd.DataFrame]:
    of = sampling.protocols(FACTS)
    return [
        trained(of[CONSTANT, RESHUFFLED], [1.0] * 4, size),
        trained(of[CONSTANT, REPLACED], losses, size),
        trained(of[DECAY, RESHUFFLED], [1.0] * 4, size),
        trained(of[DECAY, REPLACED], [0.5, 2.0, 0.5, 2.0], size),
    ]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.5, 1.51, 1.52, 1.53], "reshuffling ends lower in 1 of 2 (batch size 1, fixed rate)"),
        ([0.5, 0.51, 0.52, 0.53], "reshuffling ends higher in 1 of 2 (batch size 1, fixed rate)"),
        ([0.6, 1.7, 0.6, 1.7], "neither can be told to end lower"),
    ],
)
def test_reshuffled_and_replaced_are_compared_in_pairs(losses, said):
    found = sampling.sentence(evidence(*replaced(losses)))
    assert found.endswith(f"With Holm's correction, {said}.")
    assert f"batch size 1, fixed rate ×{np.exp(np.log(losses).mean()):.3f}" in found


def test_what_cannot_be_compared_is_named_with_the_reason():
    """At batch size 1 with a fixed rate one seed diverged; at 4 nothing was measured at either rate."""
    rows = replaced([1.5, 1.51, 1.52, 1.53])
    rows[1].loc[rows[1]["seed"] == 2, "status"] = "diverged"
    failure = {"batch_size": 4, "status": "out_of_memory", "reason": "too much"}
    failures = pd.DataFrame([failure | {"protocol": one.key} for one in sampling.protocols(FACTS).values()])
    said = sampling.sentence(evidence(*rows, failures))
    assert "batch size 1, decaying rate ×1.000" in said
    assert (
        "cannot be compared at batch size 1, fixed rate (1 of 4 seeds with replacement: diverged); batch size 4"
        in said
    )
    assert said.count("(out of memory reshuffled, too much and out of memory with replacement, too much)") == 2
    nothing = sampling.sentence(evidence(failures))
    assert nothing.startswith("Reshuffled epochs or batches drawn with replacement? They cannot be compared at")


def test_what_stands_alone_may_not_stand_holms_correction():
    """p = 0.03 of one of two ratios."""
    losses = np.exp([0.3, 0.8, 1.7, 1.2])
    assert 0.025 < stats.ttest_1samp(np.log(losses), 0).pvalue < 0.05
    assert "neither can be told" in sampling.sentence(evidence(*replaced(list(losses))))


def test_both_figures_are_drawn_where_there_are_rows():
    rows = [*decayed_or_grown([0.5, 0.51, 0.52]), *replaced([1.5, 1.51, 1.52, 1.53])]
    for claim in (decay_or_grow, sampling):
        assert claim.draw(evidence(*rows)) is not None
        assert claim.draw(evidence(rows[0].assign(protocol="another"))) is None
