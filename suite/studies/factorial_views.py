"""The answer, the text and the figure of the studies that compare Small with Large in every combination."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from suite.claims.claim import Comparison
from suite.evidence import Facts
from suite.evidence.trainings import problems_in_words
from suite.figures import VERDICT_COLOURS, new_figure
from suite.formatting import listed, ratio, sentences, signed, thousands, three_digits, with_bounds
from suite.statistics import MAX_SEEDS, Verdict
from suite.studies.factorial import ANNEALED, BUDGETS, TO_TARGET, Combination, Decider, Findings, Outcome, for_adam
from suite.training.budgets import updates_per_epoch
from suite.training.learning_rate import LEAST_BETA2

TITLE = "Where it holds"


def answer(findings: Findings, at_target: str, says: dict[Verdict, str]) -> str:
    """What holds where, after Holm's correction over the comparisons that could be made; `at_target` says what is
    compared at equal training loss, and `says` what each verdict says."""
    compared, count = len(findings.compared), len(findings.combinations)
    if not compared:
        return "The claim could be compared with none of the learning-rate rules and budgets."
    verdicts = [f"{text[0].upper()}{text[1:]}." for text in _places(findings, at_target, says)]
    left = f"{count - compared} of the {count} comparisons could not be made." if compared < count else ""
    return sentences(*verdicts, left)


def _places(findings: Findings, at_target: str, says: dict[Verdict, str]) -> Iterator[str]:
    """Each verdict that was found, with the rates or the budgets that it is found with."""
    if findings.decider is Decider.NOTHING:
        yield f"{says[findings.compared[0].corrected_verdict]} with every learning-rate rule and every budget"
        return
    for verdict, text in says.items():
        if findings.decider is Decider.RATE:
            places, places_of_some_rates = _rates_of(findings, verdict), []
        else:
            places, places_of_some_rates = _budgets_of(findings, verdict, at_target)
        if places:
            yield f"{text} {listed(places)}"
        yield from (f"{text} {place}" for place in places_of_some_rates)


def _rates_of(findings: Findings, verdict: Verdict) -> list[str]:
    """The rates with this verdict, which is that of every budget."""
    rates = dict.fromkeys(each.rate for each in findings.compared if each.corrected_verdict is verdict)
    return [f"with the {rate} rate" for rate in rates]


def _budgets_of(findings: Findings, verdict: Verdict, at_target: str) -> tuple[list[str], list[str]]:
    """The budgets with this verdict at every rate, and those with it at some rates, which are named."""
    places, places_of_some_rates = [], []
    for budget in BUDGETS:
        compared = [each for each in findings.compared if each.budget == budget]
        rates = [each.rate for each in compared if each.corrected_verdict is verdict]
        at_budget = at_target if budget == TO_TARGET else f"at {budget}"
        if rates and len(rates) == len(compared):
            places.append(at_budget)
        elif rates:
            places_of_some_rates.append(f"{at_budget} with the {listed(rates)} rate{'s' * (len(rates) > 1)}")
    return places, places_of_some_rates


def explain(findings: Findings) -> str:
    return sentences(
        rules_in_words(findings.facts),
        budgets_in_words(findings.facts),
        _missing_sentence(findings),
        _left_out_sentence(findings),
        _correction_sentence(findings),
        _undecided_sentence(findings),
        _edges_sentence(findings),
    )


def rules_in_words(facts: Facts) -> str:
    """The rate rules."""
    middle = thousands(facts.middle)
    return sentences(
        "Several rules set the learning rate: the same rate for both batch sizes; a rate in proportion to the "
        "square root of the batch size; a rate in proportion to the batch size, after a warm-up; a tuned rate; or a "
        "rate that falls linearly to 0 from a tuned peak. Under the two proportional rules the rate at batch size "
        f"{middle} is {facts.learning_rate:g}. Tuned rates are those with the lowest training loss, or the fewest "
        "updates to the target loss, on held-out seeds; each batch size has its tuned rate for each of the three "
        "kinds of comparison.",
        _betas_in_words(facts),
    )


def budgets_in_words(facts: Facts) -> str:
    """The budgets, with what equal epochs and equal updates are for each batch size."""
    per_epoch = {size: updates_per_epoch(facts.train_examples, size) for size in (facts.small, facts.large)}
    updates = facts.epochs * updates_per_epoch(facts.train_examples, facts.middle)
    made = [
        f"{thousands(facts.epochs * each)} updates at batch size {thousands(size)}"
        for size, each in per_epoch.items()
    ]
    seen = [
        f"{three_digits(updates / each)} epochs at batch size {thousands(size)}" for size, each in per_epoch.items()
    ]
    return (
        f"Equal epochs are {facts.epochs} epochs: {listed(made)}. Equal updates are {thousands(updates)} updates, as "
        f"many as {facts.epochs} epochs have at batch size {thousands(facts.middle)}: {listed(seen)}. The equal "
        f"training loss is {three_digits(facts.target_loss)}. With the annealed rate, the length of the training is "
        "chosen so that it ends at this loss. With the other rules a training stops as soon as the model with "
        "averaged parameters (over all updates so far) has this loss."
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
    """The extent of Holm's correction."""
    if not (compared := len(findings.compared)):
        return ""
    return f"The verdicts in the title use Holm's correction over {compared} comparisons; those in the figure do not."


def _missing_sentence(findings: Findings) -> str:
    """The combinations that could not be compared, each with the reason; empty where there are none."""
    missing = [
        f"the {combination.rate} rate at {combination.budget} ({combination.comparison})"
        for combination in findings.combinations
        if combination.verdict is None
    ]
    if not missing:
        return ""
    return f"{len(missing)} of the {len(findings.combinations)} comparisons could not be made: {listed(missing)}."


def _left_out_sentence(findings: Findings) -> str:
    """The seeds whose annealed training diverged; empty where none did."""
    left_out = tuple(problem for combination in findings.compared for problem in combination.left_out)
    if not left_out:
        return ""
    return f"With the annealed rate, seeds without a value are left out ({problems_in_words(left_out)})."


def _undecided_sentence(findings: Findings) -> str:
    """The seeds that would decide what is undecided; empty where nothing is."""
    undecided = {
        f"the {combination.rate} rate at {combination.budget}": _count(combination.seeds_to_decide)
        for combination in findings.compared
        if combination.verdict is Verdict.UNDECIDED
    }
    if not undecided:
        return ""
    if len(undecided) == 1:
        ((place, seeds),) = undecided.items()
        return (
            f"One comparison in the figure is undecided: {place}. If its true effect is as large as the measured "
            f"one, {seeds} seeds would decide it with a probability of 80%."
        )
    places = [f"{place} ({seeds} seeds)" for place, seeds in undecided.items()]
    return (
        f"{len(undecided)} comparisons in the figure are undecided. In brackets are the numbers of seeds that would "
        "decide each with a probability of 80%, if its true effect is as large as the measured one: "
        f"{listed(places)}."
    )


def _count(seeds: float) -> str:
    return thousands(seeds) if math.isfinite(seeds) else f"more than {thousands(MAX_SEEDS)}"


def _edges_sentence(findings: Findings) -> str:
    edges = [
        f"{edge}, at {combination.budget}{' with the annealed rate' if combination.rate == ANNEALED else ''}"
        for combination in findings.combinations
        for edge in combination.edges
    ]
    return f"A better rate may lie outside the rates tried: {'; '.join(edges)}." if edges else ""


def figure(findings: Findings, outcome: Outcome) -> Figure:
    """Rates down, budgets across: the effect with its interval, coloured by its verdict."""
    rates = list(dict.fromkeys(combination.rate for combination in findings.combinations))
    figure = new_figure(9.6, 1.1 + 0.75 * len(rates))
    axes = figure.subplots()
    for combination in findings.combinations:
        across, down = BUDGETS.index(combination.budget), rates.index(combination.rate)
        colour = VERDICT_COLOURS.get(combination.verdict, "white")
        axes.fill_between([across - 0.49, across + 0.49], down - 0.47, down + 0.47, color=colour, linewidth=0)
        text = _in_words(combination, ratio if outcome.is_ratio else signed(4))
        axes.text(across, down, text, ha="center", va="center", fontsize=9, linespacing=1.35)
    measures = [outcome.measure(findings.facts, budget).replace(", ", "\n") for budget in BUDGETS]
    headings = [f"{budget}\n{measure}" for budget, measure in zip(BUDGETS, measures, strict=True)]
    axes.set_xticks(range(len(BUDGETS)), headings)
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
