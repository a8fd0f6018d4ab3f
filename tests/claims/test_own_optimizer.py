"""What is planned, judged and said of a workload that names an optimizer of its own."""

import pandas as pd
import pytest
import torch

from suite.cells import Cell, Scope
from suite.claims import Evidence, Facts, all_claims, factorial, find, momentum_speed_up, momentum_sum, noise_course
from suite.claims.with_momentum import PLAIN, WITH
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training.learning_rate import AdamSde, ConstantHalfLife
from suite.training.tuning import FINAL
from suite.workloads import Workload
from tests.claims.evidence import evidence
from tests.conftest import blobs, tiny

SCOPE = Scope(
    (1, 4, 16),
    (1, 4, 16),
    training_batch_sizes=(1, 4, 16),
    seeds=3,
    processes=2,
    backends=("sequential", "cpu"),
    training_backend="cpu",
    factorial=True,
)
ADAMW = adamw()
ADAMW_PLAIN = adamw(betas=(0.0, 0.999))
ADADELTA = Optimizer.of(torch.optim.Adadelta)
GROUPED = adamw(betas=(0.8, 0.99), weight_decay=0.1).group("*.bias", betas=(0.8, 0.9), weight_decay=0.0)
ON_MOMENTUM = ("momentum_sum", "momentum_speed_up")
TOYS = {"twenty", "ravine", "saddle", "ball"}


def planned(workload: Workload, claim: str) -> list[Cell]:
    return [] if find(claim).unfit(workload) else find(claim).cells(workload, SCOPE)


def trainings(workload: Workload, claim: str) -> list[Cell]:
    """The cells of the workload itself, not of a toy, that train."""
    own = [cell for cell in planned(workload, claim) if cell.workload == workload.name]
    return [cell for cell in own if not cell.measurement.timed]


def optimizers(cells: list[Cell]) -> set[Optimizer]:
    return {cell.protocol.optimizer for cell in cells}


CLAIMS = [claim.name for claim in all_claims()]


@pytest.mark.parametrize("optimizer", [ADAMW, GROUPED, ADADELTA, sgd(momentum=0.9, nesterov=True)], ids=str)
@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim not in ON_MOMENTUM])
def test_every_training_uses_the_workloads_optimizer(claim, optimizer):
    assert optimizers(trainings(tiny(optimizer=optimizer), claim)) <= {optimizer}


@pytest.mark.parametrize("claim", ["gradient", "optimization", "generalization", "sharpness", *ON_MOMENTUM])
def test_there_are_trainings_of_every_claim_on_the_workload(claim):
    assert trainings(tiny(optimizer=ADAMW), claim)


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_momentum_is_left_out_by_a_beta1_of_zero(claim):
    assert optimizers(trainings(tiny(optimizer=ADAMW), claim)) == {ADAMW, ADAMW_PLAIN}


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_an_optimizer_without_momentum_gets_that_of_the_lecture(claim):
    assert optimizers(trainings(tiny(optimizer=ADAMW_PLAIN), claim)) == {ADAMW, ADAMW_PLAIN}
    assert optimizers(trainings(tiny(), claim)) == {sgd(), sgd(momentum=0.9)}


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_momentum_is_left_out_in_every_parameter_group(claim):
    without = adamw(betas=(0.0, 0.99), weight_decay=0.1).group("*.bias", betas=(0.0, 0.9), weight_decay=0.0)
    assert optimizers(trainings(tiny(optimizer=GROUPED), claim)) == {GROUPED, without}


@pytest.mark.parametrize("optimizer", [ADAMW, GROUPED, ADADELTA, sgd(momentum=0.9)], ids=str)
def test_every_timing_steps_with_the_workloads_optimizer(optimizer):
    cells = [cell for claim in CLAIMS for cell in planned(tiny(optimizer=optimizer), claim)]
    timings = [cell for cell in cells if cell.measurement.timed]
    assert timings
    assert {cell.optimizer for cell in timings} == {optimizer}
    assert {cell.optimizer for cell in cells if not cell.measurement.timed} == {None}


def test_the_toys_are_trained_with_sgd_whatever_the_workload_is_trained_with():
    for claim in CLAIMS:
        of_adamw, of_sgd = (
            [cell for cell in planned(tiny(optimizer=optimizer), claim) if cell.workload in TOYS]
            for optimizer in (ADAMW, sgd())
        )
        assert of_adamw == of_sgd
        assert {cell.protocol.optimizer.name for cell in of_adamw} <= {"sgd"}


def test_where_momentum_is_unknown_only_the_claims_on_it_are_left_out():
    assert [claim for claim in CLAIMS if not planned(tiny(optimizer=ADADELTA), claim)] == list(ON_MOMENTUM)
    assert find("momentum_sum").unfit(tiny(optimizer=ADADELTA)) == (
        "the suite does not know what momentum is in Adadelta"
    )
    assert "groups have different momenta" in find("momentum_sum").unfit(
        tiny(optimizer=adamw().group("*.bias", betas=(0.5, 0.9)))
    )


def test_the_critical_batch_is_measured_where_momentum_is_unknown_too():
    cells = noise_course.cells(tiny(optimizer=ADADELTA), SCOPE, seeds=3)
    assert {cell.measurement.name for cell in cells} == {"noise_scale", "tuned_training"}


@pytest.mark.parametrize(
    ("optimizer", "combinations"),
    [
        (sgd(), 12),
        (sgd(momentum=0.9), 12),
        (ADADELTA, 12),
        (Optimizer.of(torch.optim.NAdam, betas=(0.9, 0.99)), 12),
        (adam(), 18),
        (ADAMW, 18),
        (GROUPED, 18),
    ],
    ids=str,
)
def test_rate_rules_that_change_betas_are_crossed_with_budgets_where_the_betas_are_known(optimizer, combinations):
    workload = tiny(optimizer=optimizer)
    assert len(factorial.protocols(workload)) == combinations
    assert factorial.protocols(Facts.of(workload, blobs())) == factorial.protocols(workload)
    cells = factorial.cells(workload, SCOPE)
    assert len({(cell.protocol.key, cell.batch_size) for cell in cells}) == len(cells) == 2 * combinations


def test_the_rules_that_change_betas_give_each_batch_size_its_own():
    """At 16, four times the middle batch size: 1 - beta times 4 by one rule, beta2 to the power of 4 by the other."""
    rules = {type(one.rate_rule): one for one in factorial.protocols(tiny(optimizer=ADAMW)).values()}
    assert rules[AdamSde].optimizer_at(4) == rules[ConstantHalfLife].optimizer_at(4) == ADAMW
    assert rules[AdamSde].optimizer_at(16).get("betas") == pytest.approx((0.6, 0.996))
    assert rules[AdamSde].optimizer_at(16).get("eps") == pytest.approx(5e-9)
    assert rules[ConstantHalfLife].optimizer_at(16).get("betas") == pytest.approx((0.9, 0.999**4))


def test_the_page_says_of_the_rules_that_change_betas_how_low_beta2_gets():
    said = factorial.says(Facts.of(tiny(optimizer=ADAMW), blobs()))
    assert "AdamW's betas" in said
    assert "Neither lowers β2 below 0.9." in said
    low = factorial.says(Facts.of(tiny(optimizer=adam(betas=(0.9, 0.85))), blobs()))
    assert "Neither lowers β2 below 0.85." in low
    assert "beta" not in factorial.says(Facts.of(tiny(), blobs()))


def of_own(optimizer: Optimizer, rows: pd.DataFrame) -> Evidence:
    return Evidence(Facts.of(tiny(optimizer=optimizer), blobs()), evidence(rows).rows)


def reaching(facts: Facts, which: str, updates: float) -> pd.DataFrame:
    """Three seeds at Large that cross the target of 0.5 after so many updates, in the geometric mean."""
    lines = [
        {"seed": seed, "updates": made, "epoch": made, "train_loss": loss, "test_score": 0.9}
        for seed, crossing in enumerate((updates / 1.1, updates, updates * 1.1))
        for made, loss in ((crossing - 1, 1.0), (crossing + 1, 0.25))
    ]
    protocol = momentum_speed_up.protocols(facts)[which]
    return pd.DataFrame(lines).assign(
        batch_size=16,
        protocol=protocol.key,
        learning_rate=protocol.learning_rate,
        stage=FINAL,
        status="ok",
        measurement="tuned_training",
    )


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (ADAMW, "40.0 updates of AdamW without momentum, 10.0 with β1 0.9"),
        (sgd(momentum=0.8), "40.0 updates of SGD without momentum, 10.0 with λ 0.8"),
    ],
    ids=str,
)
def test_what_momentum_saves_is_told_of_the_workloads_optimizer(optimizer, said):
    facts = Facts.of(tiny(optimizer=optimizer), blobs())
    rows = pd.concat([reaching(facts, PLAIN, 40), reaching(facts, WITH, 10)])
    found = of_own(optimizer, rows)
    (row,) = momentum_speed_up.judge(found)
    assert row.verdict == "holds"
    assert row.protocol.startswith(str(optimizer))
    assert said in momentum_speed_up.explain(found, [row])


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        (sgd(), {PLAIN: 0.1, WITH: 0.01}),
        (sgd(momentum=0.8), {PLAIN: 0.5, WITH: 0.1}),
        (ADAMW, {PLAIN: 0.1, WITH: 0.1}),
        (ADAMW_PLAIN, {PLAIN: 0.1, WITH: 0.1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("claim", [momentum_sum, momentum_speed_up], ids=lambda claim: claim.__name__)
def test_rates_with_and_without_momentum_go_equally_far(claim, optimizer, rates):
    protocols = claim.protocols(tiny(optimizer=optimizer))
    assert {which: protocol.learning_rate for which, protocol in protocols.items()} == pytest.approx(rates)


@pytest.mark.parametrize("claim", [momentum_sum, momentum_speed_up], ids=lambda claim: claim.__name__)
def test_rates_of_dampened_momentum_go_equally_far_too(claim):
    protocols = claim.protocols(tiny(optimizer=sgd(momentum=0.8, dampening=0.5)))
    distances = [one.learning_rate * one.optimizer.momentum_gain for one in protocols.values()]
    assert distances == pytest.approx([0.25, 0.25])


@pytest.fixture(scope="module")
def movements_of_adamw():
    """The updates of an AdamW training taken apart."""
    workload = tiny(optimizer=ADAMW, learning_rate=0.01, learning_rates=(0.01, 0.03))
    own = [cell for cell in momentum_sum.cells(workload, SCOPE) if cell.workload == "tiny"]
    rows = [cell.measurement.measure(workload, blobs(), cell).assign(**cell.describe()) for cell in own]
    joined = pd.concat(rows, ignore_index=True)
    return Evidence(Facts.of(workload, blobs()), joined.reindex(columns=dict.fromkeys([*joined, "reason"])))


def test_movements_of_adamw_are_the_weighted_sum(movements_of_adamw):
    (row,) = momentum_sum.judge(movements_of_adamw)
    assert row.verdict == "holds"
    assert row.protocol.startswith("AdamW, fixed rate 0.01")


def test_the_sentences_on_the_movement_are_those_of_adamw(movements_of_adamw):
    said = momentum_sum.explain(movements_of_adamw, momentum_sum.judge(movements_of_adamw))
    assert "β1 0.9 a movement, once AdamW's division is undone, lies" in said
    assert "AdamW's weights add up to 1" in said
    assert "Its weight decay shrinks the parameters directly and is not part of the movement." in said
    assert "SGD" not in said
    figure = momentum_sum.draw(movements_of_adamw)
    assert "with it, the same" in figure.axes[2].get_xlabel()
    assert momentum_sum.numbers(movements_of_adamw)["rate, with"].tolist() == ["0.01", "0.03"]
