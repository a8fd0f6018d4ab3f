"""The answer, the text and the figure of the studies that compare Small with Large in every combination."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.figure import Figure

from suite.claims.claim import Comparison
from suite.evidence import Facts
from suite.figures import VERDICT_COLOURS, new_figure
from suite.formatting import listed, ratio, sentences, signed, thousands, with_bounds
from suite.statistics import MAX_SEEDS, Verdict
from suite.studies.factorial import BUDGETS, TO_TARGET, Combination, Decider, Findings, Outcome, for_adam, rate_rules
from suite.training.learning_rate import LEAST_BETA2

TITLE = "Where it holds"
VERBS = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNDECIDED: "is undecided"}
EVERYWHERE = {
    Decider.BUDGET: "For every learning-rate rule compared, the claim ",
    Decider.RATE: "For every budget compared, the claim ",
    Decider.BOTH: "The claim ",
}


def answer(findings: Findings, at_target: str = f"at {TO_TARGET}") -> str:
    """Where the claim holds, after Holm's correction over all combinations; `at_target` says what is compared at
    equal training loss."""
    compared = findings.compared
    if not compared:
        return "The claim could be compared with none of the learning-rate rules and budgets."
    if findings.decider is Decider.NOTHING:
        verb = VERBS[compared[0].corrected_verdict]
        return f"The claim {verb} with every learning-rate rule and every budget that could be compared."
    return f"{EVERYWHERE[findings.decider]}{_verdicts_by_place(findings, at_target)}."


def _verdicts_by_place(findings: Findings, at_target: str) -> str:
    """Each verdict with the budgets, the rates, or the pairs of both where it is found."""
    places: dict[Verdict, dict[str, None]] = {}
    for combination in findings.compared:
        budget = at_target if combination.budget == TO_TARGET else f"at {combination.budget}"
        place = {
            Decider.BUDGET: budget,
            Decider.RATE: f"with the {combination.rate} rate",
            Decider.BOTH: f"with the {combination.rate} rate {budget}",
        }[findings.decider]
        places.setdefault(combination.corrected_verdict, {})[place] = None
    return "; it ".join(f"{VERBS[verdict]} {listed(list(names))}" for verdict, names in places.items())


def explain(findings: Findings) -> str:
    return sentences(
        rules_in_words(findings.facts),
        _correction_sentence(findings),
        _undecided_sentence(findings),
        _edges_sentence(findings),
    )


def rules_in_words(facts: Facts) -> str:
    """The rate rules and the budgets."""
    middle = thousands(facts.middle)
    return sentences(
        "Several rules set the learning rate: the same rate for both batch sizes; a rate in proportion to the square "
        "root of the batch size; a rate in proportion to the batch size, after a warm-up; or a rate tuned for each "
        f"batch size on held-out seeds. Under the two proportional rules the rate at batch size {middle} is "
        f"{facts.learning_rate:g}.",
        _betas_in_words(facts),
        "Both batch sizes are trained for the same number of epochs, for the same number of updates, or to the same "
        "training loss.",
    )


def _betas_in_words(facts: Facts) -> str:
    """The rules that change the betas; empty where there are none."""
    if not for_adam(facts):
        return ""
    _, beta2 = facts.optimizer.get("betas")
    return (
        f"Two rules change {facts.optimizer.label}'s betas as well: Adam-SDE (Malladi et al. 2022), and half-life, "
        "which keeps the half-life of β2's average constant in examples (Marek et al. 2025); neither lowers β2 below "
        f"{min(LEAST_BETA2, beta2):g}."
    )


def _correction_sentence(findings: Findings) -> str:
    """The extent of Holm's correction, and how many combinations have no verdict."""
    count, compared = len(findings.combinations), len(findings.compared)
    return sentences(
        f"{count - compared} of the {count} combinations could not be compared." if compared < count else "",
        f"The verdicts in the title use Holm's correction over {compared} combinations; those in the figure do not."
        if compared
        else "",
    )


def _undecided_sentence(findings: Findings) -> str:
    seeds = [
        f"{_count(combination.seeds_to_decide)} for the {combination.rate} rate at {combination.budget}"
        for combination in findings.compared
        if combination.verdict is Verdict.UNDECIDED
    ]
    if not seeds:
        return ""
    return f"To decide the undecided combinations would take this many seeds: {listed(seeds)}."


def _count(seeds: float) -> str:
    return thousands(seeds) if math.isfinite(seeds) else f"more than {thousands(MAX_SEEDS)}"


def _edges_sentence(findings: Findings) -> str:
    edges = [
        f"{edge}, at {combination.budget}" for combination in findings.combinations for edge in combination.edges
    ]
    return f"A better rate may lie outside the rates tried: {'; '.join(edges)}." if edges else ""


def figure(findings: Findings, outcome: Outcome) -> Figure:
    """Rates down, budgets across: the effect with its interval, coloured by its verdict."""
    rates = list(rate_rules(findings.facts))
    figure = new_figure(9.6, 0.9 + 0.75 * len(rates))
    axes = figure.subplots()
    for combination in findings.combinations:
        across, down = BUDGETS.index(combination.budget), rates.index(combination.rate)
        colour = VERDICT_COLOURS.get(combination.verdict, "white")
        axes.fill_between([across - 0.49, across + 0.49], down - 0.47, down + 0.47, color=colour, linewidth=0)
        text = _in_words(combination, ratio if outcome.is_ratio else signed(4))
        axes.text(across, down, text, ha="center", va="center", fontsize=9, linespacing=1.35)
    axes.set_xticks(range(len(BUDGETS)), [f"{budget}\n{outcome.measure(budget)}" for budget in BUDGETS])
    axes.set_yticks(range(len(rates)), [f"{rate} rate" for rate in rates])
    axes.set_xlim(-0.5, len(BUDGETS) - 0.5)
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _in_words(combination: Combination, form: Callable[[float], str]) -> str:
    """The text of one cell of the figure."""
    comparison = combination.comparison
    mark = " (edge of the grid)" if combination.edges else ""
    if isinstance(comparison, Comparison):
        return f"{combination.verdict}{mark}\n{with_bounds(comparison.effect, form)}"
    seeds = f"\n{comparison.replicas} of {comparison.all_replicas} seeds {comparison.where}"
    return f"{comparison.status.text}{mark}{seeds if comparison.replicas else ''}"
