"""Damaged results folders: each file is refused in one line, or holds what was written."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import UserError
from suite.runs.store import Results
from tests.fuzz import examples
from tests.stored import tamper

VALUES = [None, True, -1, 0, 10**30, 0.5, float("nan"), float("inf"), "", "0", "../..", "a" * 9999, [], {}, [[]]]


def truncate(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 2, 10))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def splice(file: Path, draw: random.Random) -> None:
    """Some bytes lost, doubled or zeroed, as by a disk or an editor."""
    content = file.read_bytes()
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.randrange(1, 64))
    middle = draw.choice((b"", content[start:end] * 2, bytes(end - start)))
    file.write_bytes(content[:start] + middle + content[end:])


def swap(file: Path, draw: random.Random) -> None:
    """Another file of the folder in its place."""
    others = [path for path in file.parent.rglob("*") if path.is_file() and path != file]
    file.write_bytes(draw.choice(others).read_bytes())


def put_something_else(file: Path, draw: random.Random) -> None:
    file.unlink()
    kind = draw.choice(("folder", "link", "loop", "device", "text", "empty"))
    if kind == "folder":
        file.mkdir()
    elif kind in ("text", "empty"):
        file.write_text("" if kind == "empty" else "{}\n")
    else:
        file.symlink_to({"link": "nowhere", "loop": file.name, "device": "/dev/zero"}[kind])


def edit_json(file: Path, draw: random.Random) -> None:
    """One value of a manifest replaced, lost or renamed."""
    if file.suffix != ".json":
        return edit_cell(file, draw)
    content = json.loads(file.read_text())
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw.choice(list(keys))
        if not isinstance(place[key], dict | list) or not place[key] or draw.random() < 0.2:
            break
        place = place[key]
    change = draw.choice(("replace", "lose", "rename"))
    if change == "replace":
        place[key] = draw.choice(VALUES)
    else:
        value = place.pop(key)
        if change == "rename" and isinstance(place, dict):
            place[f"{key}_"] = value
    file.write_text(json.dumps(content))


def edit_cell(file: Path, draw: random.Random) -> None:
    """A value, a row, a column or the metadata changed by a program that knows Parquet."""
    if file.suffix != ".parquet":
        return edit_json(file, draw)

    def change(table: pa.Table, metadata: dict) -> tuple[pa.Table, object]:
        frame = table.to_pandas()
        kind = draw.choice(("value", "rows", "column", "type", "metadata", "foreign"))
        name, row = draw.choice(list(frame)), draw.randrange(len(frame))
        if kind == "value":
            frame[name] = frame[name].shift(1 if row else -1)
        elif kind == "rows":
            frame = draw.choice((frame.iloc[:row], frame.iloc[row:], frame.iloc[::-1], pd.concat([frame, frame])))
        elif kind == "column":
            frame = draw.choice((frame.drop(columns=name), frame.rename(columns={name: f"{name}_"})))
        elif kind == "type":
            frame[name] = frame[name].astype(str)
        elif kind == "foreign":
            frame = pd.DataFrame({"a": [1]})
        else:
            metadata[draw.choice(list(metadata))] = draw.choice(VALUES)
        return pa.Table.from_pandas(frame, preserve_index=False), metadata

    tamper(file, change)


DAMAGES = (truncate, flip, splice, swap, put_something_else, edit_json, edit_cell)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """A copy of an undamaged folder."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("damaged") / "results"))


def read_or_refused(results: Results, file: Path):
    """What the suite reads from `file`; None where it refuses in one line."""
    try:
        if file == results.manifest_file:
            return results.read_manifest()
        rows, metadata = results.read(file.stem)
    except UserError as error:
        return None if "\n" not in str(error) else str(error)
    return rows.to_dict("split"), metadata


def is_found(folder: Path, seed: int, damage: Callable[[Path, random.Random], None]) -> bool:
    """Damage one file, and mend it. Whether it was refused meanwhile; else it must hold what was written."""
    draw, results = random.Random(seed), Results(folder)
    cells = sorted(results.cells.glob("*.parquet"))
    file = draw.choice([results.manifest_file, draw.choice(cells)])
    written, content = repr(read_or_refused(results, file)), file.read_bytes()
    try:
        damage(file, draw)
        found = read_or_refused(results, file)
        assert found is None or repr(found) == written
        return found is None
    finally:
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(content)


@given(st.integers(0, 2**32), st.sampled_from(DAMAGES))
@examples(500)
def test_a_damaged_file_is_refused_or_holds_what_was_written(folder, seed, damage):
    is_found(folder, seed, damage)


@pytest.mark.parametrize("damage", DAMAGES)
def test_most_damages_are_found(folder, damage):
    """The rest changed nothing that is read, as a bit of a file's statistics does."""
    assert sum(is_found(folder, seed, damage) for seed in range(40)) >= 20
