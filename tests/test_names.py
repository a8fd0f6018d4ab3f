"""Names are the field's words: those of the suite's first dialect stay away."""

import ast
from pathlib import Path

import pytest

import suite

ROOT = Path(suite.__file__).parent.parent
FILES = [*sorted((ROOT / "suite").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
REPLACED = {
    "look": "evaluation",
    "looks": "evaluations",
    "LOOKS": "EVALUATION_GROWTH",
    "looked": "evaluated",
    "descent": "sgd",
    "update_rule": "optimizer",
    "twin": "reference implementation",
    "arm": "input_pipeline",
    "repaid": "compile_policy",
    "due": "should_compile",
    "growing": "geometric_schedule",
    "dear": "expensive",
    "cheap": "inexpensive",
    "fresh": "held_out",
    "anchor": "pilot",
    "wander": "model_variance",
    "away": "log_distance",
    "curve": "hvp",
    "multiply": "matvec",
    "settled": "final_protocol",
    "beyond": "extend_grid",
    "race": "early_stopping",
    "advice": "recommendation",
    "found": "a noun",
    "measured": "a noun",
    "what": "a noun",
    "which": "a noun",
    "how": "a noun",
    "one": "a noun",
    "other": "a noun",
    "own": "a noun",
    "said": "a noun",
    "told": "a noun",
}
"""Each with the word to write instead."""


def identifiers(tree: ast.AST):
    """Every name that a module gives, to variables, arguments, functions, classes, attributes and aliases."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case (
                ast.arg(arg=name) | ast.alias(asname=str(name)) | ast.FunctionDef(name=name) | ast.ClassDef(name=name)
            ):
                yield name, node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_name_is_of_the_dialect(file):
    dialect = {
        f"line {line}: {name}: write {REPLACED[name.lower().strip('_')]}"
        for name, line in identifiers(ast.parse(file.read_text()))
        if name.lower().strip("_") in REPLACED
    }
    assert not dialect


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_named_in_the_dialect(file):
    assert file.stem not in REPLACED
