"""A claim and a study compute once: what judges, draws and phrases only reads their findings."""

import ast
import inspect
import textwrap
import types
from dataclasses import fields, is_dataclass

import pytest

import suite.statistics
from suite.claims import all_claims, find
from suite.studies import all_studies, studies_of

PLUGINS = [*all_claims(), *all_studies()]
VIEWS = ("judge", "answer", "explain", "figure", "numbers")
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
