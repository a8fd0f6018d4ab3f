"""A claim and a study compute once: what judges, draws and phrases only reads their findings."""

import ast
import inspect
import sys
import textwrap
import types
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import pytest

import suite.statistics
from suite.claims import all_claims, find
from suite.report.sections import sections
from suite.runs.store import Results
from suite.studies import all_studies, studies_of
from tests.command import ROOT

PLUGINS = [*all_claims(), *all_studies()]
VIEWS = ("judge", "answer", "explain", "figure", "numbers")
JUDGES = (suite.statistics.verdict, suite.statistics.equivalence)
"""What `judge` may call."""
STATISTICS = [function for function in vars(suite.statistics).values() if isinstance(function, types.FunctionType)]


def functions_reached(function: types.FunctionType) -> set[types.FunctionType]:
    """Every function of the project that `function` names, or that any of these names."""
    reached, waiting = set(), [function]
    while waiting:
        current = waiting.pop()
        tree = ast.parse(textwrap.dedent(inspect.getsource(current)))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        named = [current.__globals__.get(name) for name in names]
        of_project = {
            value
            for value in named
            if isinstance(value, types.FunctionType) and value.__module__.startswith("suite.")
        }
        waiting += of_project - reached
        reached |= of_project
    return reached


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_view_computes_no_statistic(plugin, view):
    function = getattr(plugin, view)
    if function.__name__ == "<lambda>":
        pytest.skip("the plug-in has no such view")
    assert not functions_reached(function) & set(STATISTICS)


def test_the_walk_sees_a_statistic_behind_a_helper():
    assert suite.statistics.mean_interval in functions_reached(find("gradient").analyse)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_findings_are_a_frozen_dataclass_of_plain_values(plugin):
    findings = plugin.analyse.__annotations__["return"]
    findings = plugin.analyse.__globals__[findings] if isinstance(findings, str) else findings
    assert is_dataclass(findings)
    assert findings.__dataclass_params__.frozen
    for field in fields(findings):
        assert not any(word in str(field.type) for word in ("DataFrame", "Series", "ndarray", "Any")), field


def test_every_study_stands_under_a_row_in_a_place_of_its_own():
    names = {claim.name for claim in all_claims()}
    assert {study.claim for study in all_studies()} <= names
    assert sum(len(studies_of(name)) for name in names) == len(all_studies())
    assert len({(study.claim, study.place) for study in all_studies()}) == len(all_studies())
    assert len({study.name for study in all_studies()} | names) == len(all_studies()) + len(names)


def test_at_most_one_study_of_a_row_opens_its_section():
    for claim in all_claims():
        assert sum(study.opens_section for study in studies_of(claim.name)) <= 1


@pytest.fixture(scope="module")
def reference():
    """The analysed reference results."""
    return sections(Results(ROOT / "results" / "reference" / "cpu-2-cores"))


def test_no_view_of_the_reference_results_calls_a_statistic(reference, monkeypatch):
    """Whatever way it takes: a statistic that is called raises."""

    def forbidden(*arguments, **keywords):
        raise AssertionError("a view computes a statistic")

    for module in [module for name, module in sys.modules.items() if name.startswith("suite.")]:
        for name, value in list(vars(module).items()):
            if any(value is function for function in STATISTICS) and value not in JUDGES:
                monkeypatch.setattr(module, name, forbidden)
    for section in reference:
        for plugin, findings in [
            (section.claim, section.findings),
            *((part.study, part.findings) for part in section.studies),
        ]:
            for view in VIEWS:
                getattr(plugin, view)(findings)


def values_within(value):
    """`value`, and everything in it."""
    yield value
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from values_within(part)


def test_findings_of_the_reference_results_hold_no_frames_or_arrays(reference):
    for section in reference:
        for findings in (section.findings, *(part.findings for part in section.studies)):
            for value in values_within(findings):
                assert not isinstance(value, (pd.DataFrame, pd.Series, np.ndarray)), section.claim.name
