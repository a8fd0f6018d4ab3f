"""All combinations of learning-rate rules and budgets: from constructed evidence, and through the whole path on
workloads whose answer is known."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import Comparison, generalization, optimization
from suite.evidence import Problem
from suite.experiments.annealed_training import ANNEALED_TRAINING
from suite.experiments.cell import Scope
from suite.experiments.tuned_training import FINAL, TRIAL, TUNED_TRAINING
from suite.report.sections import sections
from suite.report.table import write_tables
from suite.runs.store import Results
from suite.statistics import Interval, Verdict, holm, seeds_to_decide
from suite.status import Status
from suite.studies import factorial, factorial_views, generalization_factorial, optimization_factorial
from suite.studies.factorial import Combination, Decider, EdgeOfGrid, Findings
from tests.command import call_here
from tests.conftest import tiny
from tests.evidence import FACTS, evidence

HEAD = "from tests.training.constructed import noisy_quadratic, quadratic, saddle\n"
NOISY_QUADRATIC = f"""{HEAD}
workload = noisy_quadratic(
    batch_sizes=(1, 16, 64), small=1, large=64, learning_rate=0.3, learning_rates=(0.3,), epochs=25, target_loss=2.7
)
"""
SADDLE = f"""{HEAD}
workload = saddle(batch_sizes=(1, 8, 64), small=8, large=64, epochs=6, target_loss=0.5, max_updates=50)
"""
ALL_THE_SAME = f"""import torch
{HEAD}
workload = quadratic(torch.tensor([0.1, 1.0]), epochs=3, target_loss=0.05, max_updates=200)
"""
SAME_TWICE = """from tests.conftest import blobs, tiny

workload = tiny(
    name="same_twice",
    load=lambda: blobs(240),
    batch_sizes=(4, 80, 81),
    small=80,
    large=81,
    training_batch_sizes=(80, 81),
    epochs=10,
)
"""
TUNED_UPDATES = "SGD, tuned rate, the updates of"


def whole_run(folder, name: str, text: str, seeds: int = 8) -> pd.DataFrame:
    """The rows of optimization in table.csv after a whole run of one workload into `folder`/results."""
    file, results = folder / f"{name}.py", folder / "results"
    file.write_text(text)
    options = ("--preset", "full", "--claim", "optimization", "--seeds", seeds, "--workers", 1)
    done = call_here("run", file, *options, "--results", results)
    assert done.returncode == 0, done.stderr
    write_tables(sections(Results(results)), folder)
    return pd.read_csv(folder / "table.csv", keep_default_na=False)


def row_of(rows: pd.DataFrame, start: str) -> pd.Series:
    (row,) = rows[rows["protocol"].str.startswith(start)].to_dict("records")
    return row


def test_it_fails_where_noise_is_all_that_differs(tmp_path):
    """At tuned rates and equal updates the smaller batch ends higher: its gradients are noisier, and nothing else."""
    row = row_of(whole_run(tmp_path, "noisy_quadratic", NOISY_QUADRATIC), TUNED_UPDATES)
    assert row["verdict"] == "fails"
    assert float(row["effect_high"]) < 1


def test_it_holds_where_only_noise_leaves_the_saddle(tmp_path):
    """The full batch stays at a loss of 1 at every rate, whose best is then on the edge of its grid."""
    row = row_of(whole_run(tmp_path, "noisy_saddle", SADDLE), TUNED_UPDATES)
    assert row["verdict"] == "holds"
    assert float(row["value_large"]) == 1
    assert float(row["value_small"]) < 0.5
    assert "edge of its grid at batch size 64" in row["flags"]
    assert call_here("report", "--results", tmp_path / "results").returncode == 0
    page = (tmp_path / "results" / "report" / "index.html").read_text()
    assert "A better rate may lie outside the rates tried: best rate" in page
    assert f"{row['flags']}, at equal updates" in page


def test_it_is_undecided_where_all_examples_are_the_same(tmp_path):
    row = row_of(whole_run(tmp_path, "quadratic", ALL_THE_SAME), TUNED_UPDATES)
    assert row["verdict"] == "undecided"
    assert float(row["effect"]) == pytest.approx(1)


def test_it_is_undecided_between_a_batch_size_and_itself(tmp_path):
    """80 and 81 of 240: three updates an epoch, other shuffles."""
    row = row_of(whole_run(tmp_path, "same_twice", SAME_TWICE), "SGD, fixed rate 0.1, the updates of")
    assert row["verdict"] == "undecided"


COMBINATIONS = tuple(factorial.protocols(FACTS))
SMALL_LOSSES, LARGE_LOSSES = [0.1, 0.2, 0.15, 0.12], [0.9, 1.0, 1.1, 0.95]
UNDECIDED = [0.1, 0.21, 0.14, 0.13]
LOWER = {1: LARGE_LOSSES, 16: SMALL_LOSSES}


def trained(place: tuple[str, str], losses: dict[int, list[float]], **columns) -> pd.DataFrame:
    """Two evaluations of each seed: at epoch 0 with loss 2, and at epoch 4 with its loss. Of annealed trainings of
    growing length, two ends, each an epoch later."""
    first = int(place == ANNEALED_TO_TARGET)
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": evaluation * 10,
            "epoch": first + evaluation * 4,
            "train_loss": loss if evaluation else 2.0,
            "train_score": 0.9,
            "test_loss": 0.8,
            "test_score": 1 - loss if evaluation else 0.0,
            "status": "ok",
        }
        for size, of_size in losses.items()
        for seed, loss in enumerate(of_size)
        for evaluation in (0, 1)
    ]
    rows = pd.DataFrame(lines).assign(protocol=factorial.protocols(FACTS)[place].key, learning_rate=0.1)
    return rows.assign(**columns)


def all_trained(**changed: pd.DataFrame) -> list[pd.DataFrame]:
    """Every combination, where the claim holds but at equal updates; the frames in `changed` instead, named by rate
    and budget with underscores."""
    frames = {}
    for rate, budget in COMBINATIONS:
        name = f"{rate}_{budget}".replace(" ", "_").replace("-", "_")
        losses = {
            factorial.EPOCHS: {1: SMALL_LOSSES, 16: LARGE_LOSSES},
            factorial.UPDATES: LOWER,
            factorial.TO_TARGET: {1: SMALL_LOSSES, 16: [0.4, 0.45, 0.4, 0.48]},
        }[budget]
        frames[name] = changed.get(name, trained((rate, budget), losses))
    assert set(changed) <= set(frames)
    return list(frames.values())


def analysed(**changed: pd.DataFrame) -> Findings:
    return optimization_factorial.analyse(evidence(*all_trained(**changed)))


def combination(findings: Findings, rate: str, budget: str) -> Combination:
    (match,) = (each for each in findings.combinations if (each.rate, each.budget) == (rate, budget))
    return match


def test_every_combination_is_compared_by_its_outcome():
    findings = analysed()
    assert [(each.rate, each.budget) for each in findings.combinations] == list(COMBINATIONS)
    losses = combination(findings, "square-root", factorial.EPOCHS).comparison
    differences = np.log(LARGE_LOSSES) - np.log(SMALL_LOSSES)
    assert losses.effect.estimate == pytest.approx(np.exp(differences.mean()))
    assert losses.small == pytest.approx(np.exp(np.log(SMALL_LOSSES).mean()))
    epochs = combination(findings, "tuned", factorial.TO_TARGET).comparison
    to_target = np.log(2 / 0.5) / np.log(2 / np.array(SMALL_LOSSES)) * 4
    assert epochs.small == pytest.approx(np.exp(np.log(to_target).mean()))
    assert findings.decider is Decider.BUDGET


def test_generalization_compares_test_scores():
    findings = generalization_factorial.analyse(evidence(*all_trained()))
    scores = combination(findings, "fixed", factorial.EPOCHS).comparison
    assert scores.effect.estimate == pytest.approx(np.mean(LARGE_LOSSES) - np.mean(SMALL_LOSSES))
    assert scores.large == pytest.approx(1 - np.mean(LARGE_LOSSES))
    assert combination(findings, "fixed", factorial.UPDATES).verdict is Verdict.FAILS


def test_only_combinations_that_the_claims_do_not_judge_are_rows():
    protocols = factorial.protocols(FACTS)
    rows = optimization_factorial.judge(analysed())
    assert [row.protocol for row in rows] == [
        protocols[place] for place in COMBINATIONS if place != ("fixed", factorial.EPOCHS)
    ]
    assert {row.headline for row in rows} == {False}
    assert {(row.measure, row.unit, row.null) for row in rows} == {
        ("training loss, Large / Small", "training loss", 1),
        ("epochs to training loss 0.500, Large / Small", "epochs", 1),
    }
    rows = generalization_factorial.judge(generalization_factorial.analyse(evidence(*all_trained())))
    assert [row.protocol for row in rows] == [
        protocols[place] for place in COMBINATIONS if place != ("fixed", factorial.TO_TARGET)
    ]
    assert {(row.kind, row.null) for row in rows} == {("difference", 0)}
    assert {row.measure for row in rows} == {
        "test accuracy, Small − Large",
        "test accuracy at training loss 0.500, Small − Large",
    }


@pytest.mark.parametrize("facts", [FACTS, replace(FACTS, fitted_loss=FACTS.target_loss)])
def test_no_two_rows_have_the_same_protocol_and_measure(facts):
    """The claim and the study judge the annealed trainings at different losses, or the claim alone at the same."""
    rows = replace(evidence(*all_trained()), facts=facts)
    for claim, study in ((optimization, optimization_factorial), (generalization, generalization_factorial)):
        judged = [*claim.judge(claim.analyse(rows)), *study.judge(study.analyse(rows))]
        assert len({(row.protocol, row.measure) for row in judged}) == len(judged)


def test_the_annealed_rate_shares_the_trainings_of_the_generalization_claim():
    scope = Scope((1, 16), (1, 16), (1, 16), 5, 1, ("cpu",), training_backend="cpu", factorial=True)
    cells = factorial.cells(tiny(), scope)
    annealed = [cell for cell in cells if cell.protocol.annealed]
    assert [cell.measurement for cell in annealed] == [TUNED_TRAINING] * 4 + [ANNEALED_TRAINING] * 2
    assert set(annealed[4:]) < set(generalization.cells(tiny(), scope))


ANNEALED_TO_TARGET = ("annealed", factorial.TO_TARGET)


def growing_lengths(losses: dict[int, list[tuple[float, float]]], **columns) -> pd.DataFrame:
    """The ends of two trainings of each seed, of 1 and of 3 epochs, at its pair of losses."""
    lines = [
        {
            "batch_size": size,
            "seed": seed,
            "updates": 10 * epoch,
            "epoch": epoch,
            "train_loss": loss,
            "test_score": 1 - loss / 10,
            "status": "diverged" if math.isnan(loss) else "ok",
        }
        for size, of_size in losses.items()
        for seed, pair in enumerate(of_size)
        for epoch, loss in zip((1, 3), pair, strict=True)
    ]
    protocol = factorial.protocols(FACTS)[ANNEALED_TO_TARGET]
    return pd.DataFrame(lines).assign(protocol=protocol.key, learning_rate=0.1, stage=FINAL, **columns)


def test_annealed_trainings_are_compared_where_their_lengths_cross_the_target_loss():
    """Small ends at 1.0 and 0.25 around the target of 0.5, and Large reaches it with its second length; one of ten
    seeds diverged there."""
    losses = {1: [(1.0, 0.25)] * 10, 16: [(1.0, 0.5)] * 9 + [(1.0, math.nan)]}
    others = [growing_lengths({1: [(0.1, 0.1)], 16: [(0.1, 0.1)]}).assign(stage=stage) for stage in (TRIAL, "lower")]
    rows = pd.concat([growing_lengths(losses), *others])
    findings = analysed(annealed_equal_training_loss=rows)
    annealed = combination(findings, *ANNEALED_TO_TARGET)
    assert (annealed.comparison.small, annealed.comparison.large) == (
        pytest.approx(math.sqrt(3)),
        pytest.approx(3),
    )
    assert annealed.comparison.effect.n == 9
    left_out = Problem(Status.DIVERGED, replicas=1, all_replicas=10, where="at batch size 16")
    assert annealed.left_out == (left_out,)
    flagged = [row for row in optimization_factorial.judge(findings) if row.flags]
    assert [(row.protocol, row.flags) for row in flagged] == [
        (factorial.protocols(FACTS)[ANNEALED_TO_TARGET], (left_out,))
    ]
    assert (
        "With the annealed rate, seeds without a value are left out (1 of 10 seeds at batch size 16: diverged)."
        in factorial_views.explain(findings)
    )
    scores = generalization_factorial.analyse(evidence(*all_trained(annealed_equal_training_loss=rows)))
    assert combination(scores, *ANNEALED_TO_TARGET).comparison.large == pytest.approx(0.95)


def test_annealed_trainings_whose_mean_misses_the_target_loss_are_not_compared():
    rows = growing_lengths({1: [(1.0, 0.25)] * 10, 16: [(1.0, 0.5)] * 8 + [(1.0, 0.9)] * 2})
    annealed = combination(analysed(annealed_equal_training_loss=rows), *ANNEALED_TO_TARGET)
    problem = Problem(Status.TARGET_NOT_REACHED, where="at batch size 16")
    assert (annealed.comparison, annealed.verdict) == (problem, None)


def test_the_edge_of_the_grid_is_a_flag_and_trials_are_not_compared():
    place = ("tuned", factorial.UPDATES)
    final = trained(place, LOWER, stage=FINAL)
    edge = final["batch_size"] == 16
    final = final.assign(on_edge=edge, learning_rate=np.where(edge, 3.2, 0.1))
    trials = trained(place, {1: [9.0] * 4, 16: [9.0] * 4}, stage=TRIAL, on_edge=True)
    findings = analysed(tuned_equal_updates=pd.concat([final, trials]))
    flagged = combination(findings, *place)
    assert flagged.edges == (EdgeOfGrid(3.2, 16),)
    assert flagged.comparison == combination(findings, "fixed", factorial.UPDATES).comparison
    (row,) = (row for row in optimization_factorial.judge(findings) if row.flags)
    assert row.flags == (EdgeOfGrid(3.2, 16),)
    assert str(row.flags[0]) == "best rate 3.2 on the edge of its grid at batch size 16"
    assert "best rate 3.2 on the edge of its grid at batch size 16, at equal updates." in factorial_views.explain(
        findings
    )


def test_an_undecided_combination_has_the_seeds_that_would_decide_it():
    place = ("square-root", factorial.EPOCHS)
    findings = analysed(square_root_equal_epochs=trained(place, {1: SMALL_LOSSES, 16: UNDECIDED}))
    undecided = combination(findings, *place)
    assert undecided.verdict is undecided.corrected_verdict is Verdict.UNDECIDED
    seeds = seeds_to_decide(np.log(UNDECIDED) - np.log(SMALL_LOSSES))
    assert undecided.seeds_to_decide == seeds
    assert math.isfinite(seeds)
    assert (
        f"the square-root rate at equal epochs. If its true effect is as large as the measured one, {seeds:,.0f} "
        "seeds" in factorial_views.explain(findings)
    )


def test_a_combination_without_a_value_takes_no_part_in_holms_correction():
    place = ("tuned", factorial.EPOCHS)
    rows = trained(place, {1: SMALL_LOSSES, 16: LARGE_LOSSES})
    diverged = rows.assign(status=rows["status"].where((rows["batch_size"] == 1) | (rows["seed"] > 0), "diverged"))
    findings = analysed(tuned_equal_epochs=diverged)
    missing = combination(findings, *place)
    problem = Problem(Status.DIVERGED, replicas=1, all_replicas=4, where="at batch size 16")
    assert (missing.comparison, missing.verdict, missing.corrected_verdict) == (problem, None, None)
    assert len(findings.compared) == 14
    np.testing.assert_allclose(
        [each.p_holm for each in findings.compared], holm([each.p_value for each in findings.compared])
    )
    (row,) = (row for row in optimization_factorial.judge(findings) if row.status == Status.DIVERGED)
    assert row.flags == (problem,)
    assert (
        "1 of the 15 comparisons could not be made: the tuned rate at equal "
        "epochs (1 of 4 seeds at batch size 16: diverged)." in factorial_views.explain(findings)
    )
    assert optimization_factorial.figure(findings) is not None


def test_a_verdict_that_does_not_stand_holms_correction_is_undecided():
    holding = Combination("fixed", factorial.EPOCHS, COMPARISON, (), Verdict.HOLDS, p_value=0.03)
    failing = Combination("fixed", factorial.UPDATES, COMPARISON, (), Verdict.FAILS, p_value=0.001)
    first, second = factorial.corrected([holding, failing])
    assert (first.p_holm, first.corrected_verdict) == (0.03, Verdict.HOLDS)
    assert (second.p_holm, second.corrected_verdict) == (0.002, Verdict.FAILS)
    first, second = factorial.corrected([holding, replace_p(failing, 0.04)])
    assert (first.verdict, first.p_holm, first.corrected_verdict) == (Verdict.HOLDS, 0.06, Verdict.UNDECIDED)
    assert second.corrected_verdict is Verdict.UNDECIDED


COMPARISON = Comparison(Interval(2.0, 1.5, 2.5, 8), 1.0, 2.0)


def replace_p(combination: Combination, p_value: float) -> Combination:
    return Combination(combination.rate, combination.budget, COMPARISON, (), combination.verdict, p_value=p_value)


CLAIM = {
    Verdict.HOLDS: "the claim holds",
    Verdict.FAILS: "the claim fails",
    Verdict.UNDECIDED: "the claim is undecided",
}


def with_verdicts(choose: Callable[[str, str], Verdict | None]) -> Findings:
    """Every combination with the corrected verdict that `choose` gives its rate and budget."""
    combinations = tuple(
        Combination(
            rate,
            budget,
            COMPARISON if choose(rate, budget) else Problem(Status.DIVERGED),
            edges=(),
            verdict=choose(rate, budget),
            seeds_to_decide=40.0,
            corrected_verdict=choose(rate, budget),
        )
        for rate, budget in COMBINATIONS
    )
    return Findings(FACTS, "cpu", combinations, factorial.decider(combinations))


@pytest.mark.parametrize(
    ("choose", "decider", "answer"),
    [
        (
            lambda rate, budget: Verdict.HOLDS,
            Decider.NOTHING,
            "The claim holds with every learning-rate rule and every budget.",
        ),
        (
            lambda rate, budget: Verdict.HOLDS if rate == "fixed" else Verdict.FAILS,
            Decider.RATE,
            "The claim holds with the fixed rate. The claim fails with the square-root rate, "
            "with the warmed-up linear rate, with the tuned rate and with the annealed rate.",
        ),
        (
            lambda rate, budget: Verdict.FAILS if budget == factorial.UPDATES else Verdict.HOLDS,
            Decider.BUDGET,
            "The claim holds at equal epochs and at equal training loss. The claim fails at equal updates.",
        ),
        (
            lambda rate, budget: None if rate == "tuned" else Verdict.UNDECIDED,
            Decider.NOTHING,
            "The claim is undecided with every learning-rate rule and every budget. 3 of the 15 comparisons could "
            "not be made.",
        ),
        (
            lambda rate, budget: {
                factorial.EPOCHS: Verdict.HOLDS,
                factorial.UPDATES: Verdict.FAILS,
                factorial.TO_TARGET: Verdict.FAILS if rate in ("fixed", "square-root") else None,
            }[budget],
            Decider.BUDGET,
            "The claim holds at equal epochs. The claim fails at equal updates and at equal training loss. 3 of the "
            "15 comparisons could not be made.",
        ),
        (
            lambda rate, budget: (
                None
                if (rate, budget) == ("tuned", factorial.EPOCHS)
                else Verdict.HOLDS
                if rate == "tuned"
                else Verdict.FAILS
            ),
            Decider.RATE,
            "The claim holds with the tuned rate. The claim fails with the fixed rate, with the square-root rate, "
            "with the warmed-up linear rate and with the annealed rate. 1 of the 15 comparisons could not be made.",
        ),
        (
            lambda rate, budget: None,
            None,
            "The claim could be compared with none of the learning-rate rules and budgets.",
        ),
    ],
)
def test_the_answer_states_what_decides(choose, decider, answer):
    findings = with_verdicts(choose)
    assert findings.decider is decider
    assert factorial_views.answer(findings, f"at {factorial.TO_TARGET}", CLAIM) == answer


def test_the_text_counts_the_combinations_that_could_not_be_compared():
    findings = with_verdicts(lambda rate, budget: None if rate == "tuned" else Verdict.UNDECIDED)
    text = factorial_views.explain(findings)
    assert "3 of the 15 comparisons could not be made:" in text
    assert text.count("(40 seeds)") == 12
    assert factorial_views.explain(with_verdicts(lambda rate, budget: Verdict.HOLDS)).count("could not be made") == 0


def test_the_answer_names_the_rates_of_a_budget_where_neither_rate_nor_budget_decides():
    findings = with_verdicts(
        lambda rate, budget: Verdict.HOLDS if (rate, budget) == ("tuned", factorial.UPDATES) else Verdict.FAILS
    )
    answer = factorial_views.answer(findings, f"at {factorial.TO_TARGET}", CLAIM)
    assert findings.decider is Decider.BOTH
    assert answer == (
        "The claim holds at equal updates with the tuned rate. The claim fails at equal epochs and at equal training "
        "loss. The claim fails at equal updates with the fixed, square-root, warmed-up linear and annealed rates."
    )


def test_the_page_says_how_long_both_train_in_equal_epochs_and_in_equal_updates():
    """40 examples; 30 updates are three epochs at batch size 4, and ten at 16, whose last batch has eight."""
    text = factorial_views.budgets_in_words(FACTS)
    assert "Equal epochs are 3 epochs: 120 updates at batch size 1 and 9 updates at batch size 16." in text
    assert "Equal updates are 30 updates, as many as 3 epochs have at batch size 4: 0.750 epochs at batch" in text
    assert "size 1 and 10.0 epochs at batch size 16." in text


def test_a_false_holds_among_all_combinations_is_as_rare_as_among_one():
    """Holm over twelve null effects: at least one of them rejected in about 5% of pages, not 46%."""
    pages = 1000
    nulls = np.random.default_rng(7).normal(size=(10, pages, 12))
    p_values = stats.ttest_1samp(nulls, 0).pvalue
    wrong = np.mean([min(holm(page)) < 0.05 for page in p_values])
    assert wrong < 0.05 + 3 * (0.05 * 0.95 / pages) ** 0.5
    assert (p_values.min(axis=1) < 0.05).mean() > 0.4
