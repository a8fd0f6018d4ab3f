"""The matrix of rates and budgets: through the whole path on workloads whose answer is known, and what is drawn
from it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from suite.claims import factorial
from suite.report.sections import sections
from suite.report.table import table, write_tables
from suite.results import Results
from suite.statistics import holm
from tests.claims.evidence import FACTS
from tests.command import call_here

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


def matrix(folder, name: str, text: str, seeds: int = 8) -> pd.DataFrame:
    """The rows of optimization in table.csv after a whole run of one workload into `folder`/results."""
    file, results = folder / f"{name}.py", folder / "results"
    file.write_text(text)
    options = ("--preset", "full", "--claim", "optimization", "--seeds", seeds, "--workers", 1)
    done = call_here("run", file, *options, "--results", results)
    assert done.returncode == 0, done.stderr
    write_tables(table(sections(Results(results))), folder)
    return pd.read_csv(folder / "table.csv", keep_default_na=False)


def verdict(rows: pd.DataFrame, start: str) -> pd.Series:
    (found,) = rows[rows["protocol"].str.startswith(start)].to_dict("records")
    return found


def test_it_fails_where_noise_is_all_that_differs(tmp_path):
    """At tuned rates and equal updates the smaller batch ends higher: its gradients are noisier, and nothing else."""
    row = verdict(matrix(tmp_path, "noisy_quadratic", NOISY_QUADRATIC), TUNED_UPDATES)
    assert row["verdict"] == "fails"
    assert float(row["effect_high"]) < 1


def test_it_holds_where_only_noise_leaves_the_saddle(tmp_path):
    """The full batch stays at a loss of 1 at every rate, whose best is then on the edge of its grid."""
    row = verdict(matrix(tmp_path, "noisy_saddle", SADDLE), TUNED_UPDATES)
    assert row["verdict"] == "holds"
    assert float(row["value_large"]) == 1
    assert float(row["value_small"]) < 0.5
    assert "edge of its grid at batch size 64" in row["flags"]
    assert call_here("report", "--results", tmp_path / "results").returncode == 0
    page = (tmp_path / "results" / "report" / "index.html").read_text()
    assert "A better rate may lie beyond what was tried: best rate" in page
    assert f"{row['flags']}, at equal updates" in page


def test_it_is_undecided_where_all_examples_are_the_same(tmp_path):
    row = verdict(matrix(tmp_path, "quadratic", ALL_THE_SAME), TUNED_UPDATES)
    assert row["verdict"] == "undecided"
    assert float(row["effect"]) == pytest.approx(1)


def test_it_is_undecided_between_a_batch_size_and_itself(tmp_path):
    """80 and 81 of 240: three updates an epoch, other shuffles."""
    row = verdict(matrix(tmp_path, "same_twice", SAME_TWICE), "SGD, fixed rate 0.1, the updates of")
    assert row["verdict"] == "undecided"


def combinations(verdicts: dict[tuple[str, str], str]) -> pd.DataFrame:
    lines = [
        {"rate": rate, "budget": budget, "verdict": found, "safe": found, "status": "ok" if found else "diverged"}
        | {"wanted": 40.0}
        for (rate, budget), found in verdicts.items()
    ]
    return pd.DataFrame(lines)


def everywhere(choose) -> dict[tuple[str, str], str]:
    rates = factorial.rate_rules(FACTS)
    return {(rate, budget): choose(rate, budget) for rate in rates for budget in factorial.BUDGETS}


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        (lambda rate, budget: "holds", "the claim holds in every one compared."),
        (
            lambda rate, budget: "holds" if rate == "fixed" else "fails",
            "the claim holds with the fixed rate; fails with the square-root rate, with the warmed-up linear rate, "
            "with the tuned rate, whatever the budget.",
        ),
        (
            lambda rate, budget: "fails" if budget == factorial.UPDATES else "holds",
            "the claim holds at equal epochs, at equal training loss; fails at equal updates, whatever the rate.",
        ),
        (
            lambda rate, budget: "" if rate == "tuned" else "undecided",
            "the claim is undecided in every one compared. 3 could not be compared.",
        ),
        (lambda rate, budget: "", "the claim could be compared in none."),
    ],
)
def test_the_sentence_says_what_decides(choose, said):
    assert factorial._drawn(combinations(everywhere(choose))).endswith(said)


def test_the_sentence_lists_what_neither_rate_nor_budget_decides():
    verdicts = everywhere(lambda rate, budget: "fails") | {("tuned", factorial.UPDATES): "holds"}
    said = factorial._drawn(combinations(verdicts))
    assert "holds with the tuned rate at equal updates" in said
    assert said.count("rate at") == 12


def test_a_false_holds_among_all_combinations_is_as_rare_as_among_one():
    """Holm over twelve null effects: at least one of them rejected in about 5% of pages, not 46%."""
    pages = 1000
    nulls = np.random.default_rng(7).normal(size=(10, pages, 12))
    p_values = stats.ttest_1samp(nulls, 0).pvalue
    wrong = np.mean([min(holm(page)) < 0.05 for page in p_values])
    assert wrong < 0.05 + 3 * (0.05 * 0.95 / pages) ** 0.5
    assert (p_values.min(axis=1) < 0.05).mean() > 0.4
