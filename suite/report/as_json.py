"""report.json: rows, findings and provenance, for other programs."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from suite.evidence import Facts
from suite.report.provenance import measured_by
from suite.report.sections import Section, six_digits
from suite.training.protocol import Protocol

SCHEMA_VERSION = 1


def write_json(sections: list[Section], folder: Path) -> None:
    """Write report.json: numbers to six significant digits, NaN as null, infinities as "inf" and "-inf"."""
    report = {
        "schema_version": SCHEMA_VERSION,
        "provenance": dict(measured_by(sections)),
        "workloads": {
            name: _workload([section for section in sections if section.facts.name == name])
            for name in dict.fromkeys(section.facts.name for section in sections)
        },
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _workload(sections: list[Section]) -> dict:
    return {
        "facts": to_json(sections[0].facts.to_dict()),
        "claims": {section.claim.name: _claim(section) for section in sections},
    }


def _claim(section: Section) -> dict:
    claim = section.claim
    return {
        "title": claim.title,
        "says": claim.says,
        "rule": claim.rule,
        "answer": section.answer,
        "rows": to_json(section.rows),
        "findings": to_json(section.findings),
        "gaps": to_json(section.gaps),
        "studies": {
            part.study.name: {
                "title": part.study.title,
                "answer": part.study.answer(part.findings),
                "findings": to_json(part.findings),
            }
            for part in section.studies
        },
    }


def to_json(value: Any) -> Any:
    """`value` as JSON has it: a dataclass as its fields, with its text where it has one."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Protocol):
        return {"text": str(value), **value.key_fields()}
    if is_dataclass(value):
        text = {"text": str(value)} if "__str__" in type(value).__dict__ else {}
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return text | {name: to_json(part) for name, part in values.items() if not isinstance(part, Facts)}
    if isinstance(value, dict):
        return {str(name): to_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(part) for part in value]
    return _number(value)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return value
    if math.isnan(value):
        return None
    if math.isinf(value):
        return str(float(value))
    return int(value) if int(value) == value and not isinstance(value, float) else six_digits(float(value))
