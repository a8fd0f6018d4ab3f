"""Damaged, foreign and unreadable results folders: refused in one line or measured again, never read as good."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from suite.errors import UserError
from suite.runs.cell_file import SCHEMA_VERSION
from suite.runs.store import Results
from tests.command import QUICK, assert_refused, call_here
from tests.stored import rewrite_manifest, tamper

COMMANDS = pytest.mark.parametrize("command", [("run", *QUICK), ("report",)], ids=["run", "report"])


def call_on(command: tuple, own_workload: Path, folder: Path) -> subprocess.CompletedProcess:
    name, *options = command
    return call_here(name, *([own_workload] if name == "run" else []), *options, "--results", folder)


def cell_of(folder: Path) -> Path:
    return min((folder / "cells").glob("*.parquet"))


def next_cell(cell: Path) -> Path:
    return sorted(cell.parent.glob("*.parquet"))[1]


def replaced(table: pa.Table, name: str, values: list) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def with_rows(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda cell: tamper(cell, lambda table, metadata: (change(table), metadata))


def with_metadata(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda cell: tamper(cell, lambda table, metadata: (table, change(metadata)))


def without(values: dict, name: str) -> dict:
    return {key: value for key, value in values.items() if key != name}


DAMAGE = {
    "truncated": lambda cell: cell.write_bytes(cell.read_bytes()[: cell.stat().st_size // 2]),
    "empty": lambda cell: cell.write_bytes(b""),
    "text": lambda cell: cell.write_text("not Parquet"),
    "of somebody else": lambda cell: pd.DataFrame({"a": [1]}).to_parquet(cell),
    "another cell": lambda cell: shutil.copy(next_cell(cell), cell),
    "a value changed": with_rows(lambda table: replaced(table, "batch_size", [2] * len(table))),
    "a status changed": with_rows(lambda table: replaced(table, "status", ["unavailable"] * len(table))),
    "a row lost": with_rows(lambda table: table.slice(1)),
    "a row twice": with_rows(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "rows in another order": with_rows(lambda table: table.take(list(reversed(range(len(table)))))),
    "a column lost": with_rows(lambda table: table.drop_columns(["seed"])),
    "a column twice": with_rows(lambda table: table.append_column("seed", table["seed"])),
    "a column renamed": with_rows(lambda table: table.rename_columns({"seed": "replica"})),
    "a column of another type": with_rows(
        lambda table: table.set_column(0, table.column_names[0], pa.array(range(len(table))))
    ),
    "without a version": with_metadata(lambda metadata: without(metadata, "schema_version")),
    "without a checksum": with_metadata(lambda metadata: without(metadata, "checksum")),
    "a list for metadata": with_metadata(lambda metadata: [metadata]),
    "another machine": with_metadata(lambda metadata: {**metadata, "machine": "a faster one"}),
    "another key": with_metadata(lambda metadata: {**metadata, "key": "0" * 20}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cell_is_named_by_the_report_and_left_as_it_is(damage, copied):
    cell = cell_of(copied)
    damage(cell)
    before = cell.read_bytes()
    assert not Results(copied).is_whole(cell.stem)
    assert_refused(call_here("report", "--results", copied), cell.name, "is damaged", "`suite run`", "again")
    assert cell.read_bytes() == before


def test_a_damaged_cell_is_measured_again_by_the_run(copied, trained, own_workload):
    cell = cell_of(copied)
    DAMAGE["a value changed"](cell)
    done = call_on(("run", *QUICK), own_workload, copied)
    assert done.returncode == 0, done.stderr
    assert f"suite: warning: {cell} is damaged" in done.stderr
    pd.testing.assert_frame_equal(
        Results(copied).read(cell.stem)[0], Results(trained).read(cell.stem)[0], check_exact=True
    )


def test_of_several_damaged_cells_the_first_is_named(copied, own_workload):
    for file in (cell_of(copied), next_cell(cell_of(copied))):
        file.write_bytes(b"")
    done = call_on(("run", *QUICK), own_workload, copied)
    assert f"{cell_of(copied)} and 1 more are damaged and will be measured again" in done.stderr


def other_schema(version: int) -> list[str]:
    """What is said of a file of another schema."""
    reads = f"has schema {version}, this suite reads {SCHEMA_VERSION}"
    return [reads, "move the results folder away", "--results", "`suite run`"]


@COMMANDS
@pytest.mark.parametrize("version", [1, 2, 7])
def test_a_cell_of_another_version_is_named_and_left_as_it_is(command, version, copied, own_workload):
    cell = cell_of(copied)
    with_metadata(lambda metadata: {**metadata, "schema_version": version})(cell)
    before = cell.read_bytes()
    assert_refused(call_on(command, own_workload, copied), cell.name, *other_schema(version))
    assert cell.read_bytes() == before


MANIFESTS = [
    "{",
    "",
    "null",
    "[]",
    "[" * 100_000,
    "\xff",
    '{"schema_version": %d}',
    '{"schema_version": %d, "schema_version": %d, "workloads": {}}',
    '{"schema_version": %d, "workloads": 3}',
    '{"schema_version": %d, "workloads": {}}',
    '{"schema_version": %d, "workloads": {"tiny": {"facts": {}}}}',
]


@COMMANDS
@pytest.mark.parametrize("content", MANIFESTS)
def test_a_damaged_manifest_is_named_and_left_as_it_is(command, content, copied, own_workload):
    written = content.replace("%d", str(SCHEMA_VERSION)).encode("latin-1")
    (copied / "manifest.json").write_bytes(written)
    assert_refused(call_on(command, own_workload, copied), "manifest.json is damaged", "no cell is lost")
    assert (copied / "manifest.json").read_bytes() == written


def tiny_of(content: dict) -> dict:
    return content["workloads"]["tiny"]


def first_cell(content: dict) -> dict:
    return tiny_of(content)["claims"]["generalization"][0]


CHANGES = {
    "the target": lambda content: tiny_of(content)["facts"].update(target_loss=0.1),
    "text for a number": lambda content: tiny_of(content)["facts"].update(target_loss="0.5"),
    "a fact lost": lambda content: tiny_of(content)["facts"].pop("small"),
    "another name": lambda content: tiny_of(content)["facts"].update(name="other"),
    "a name that leaves the folder": lambda content: content["workloads"].update({"../up": tiny_of(content)}),
    "a key that leaves the folder": lambda content: first_cell(content).update(key="../../etc/passwd"),
    "a cell for a list": lambda content: tiny_of(content)["claims"].update(generalization={}),
    "another batch size": lambda content: first_cell(content).update(batch_size=3),
    "a cell lost": lambda content: tiny_of(content)["claims"]["generalization"].pop(),
    "a claim lost": lambda content: tiny_of(content)["claims"].pop("generalization"),
    "one more field": lambda content: tiny_of(content).update(note="mine"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_manifest_that_was_changed_by_hand_is_named(change, copied):
    content = json.loads((copied / "manifest.json").read_text())
    change(content)
    (copied / "manifest.json").write_text(json.dumps(content))
    assert_refused(call_here("report", "--results", copied), "manifest.json is damaged", "no cell is lost")


@pytest.mark.parametrize(
    "name",
    [
        "text for a number",
        "a fact lost",
        "another name",
        "a name that leaves the folder",
        "a key that leaves the folder",
        "a cell for a list",
        "one more field",
    ],
)
def test_what_a_manifest_must_hold_is_checked_beside_its_checksum(name, copied):
    """As of another version of the suite, which wrote it with a checksum."""
    rewrite_manifest(Results(copied), CHANGES[name])
    with pytest.raises(UserError, match="of another version of the suite"):
        Results(copied).read_manifest()


@COMMANDS
@pytest.mark.parametrize("version", [1, 7], ids=["older", "newer"])
def test_a_manifest_of_another_version_is_named(command, version, copied, own_workload):
    rewrite_manifest(Results(copied), lambda content: content.update(schema_version=version))
    before = (copied / "manifest.json").read_text()
    assert_refused(call_on(command, own_workload, copied), "manifest.json", *other_schema(version))
    assert (copied / "manifest.json").read_text() == before


OF_THE_FIRST_SCHEMA = """{"schema_version": 1, "workloads": {"tiny": {
"facts": {"name": "tiny", "small": 1, "large": 16, "update_rule": "sgd", "momentum": 0.0},
"fingerprint": "f60a1c5d2b7e4938",
"claims": {"optimization": [{"arm": "resident", "backend": "cpu", "batch_size": 1, "key": "964a06d5889a32d1473b",
"learning_rate": 0.1, "measurement": "training", "protocol": "fixed rate 0.1, 3 epochs", "workload": "tiny"}]}}}}"""
"""A manifest as the suite wrote it then."""


@COMMANDS
def test_a_folder_of_the_first_schema_is_refused_and_left_as_it_is(command, tmp_path, own_workload):
    file, cell = tmp_path / "manifest.json", tmp_path / "cells" / "964a06d5889a32d1473b.parquet"
    cell.parent.mkdir()
    file.write_text(OF_THE_FIRST_SCHEMA)
    cell.write_bytes(b"a cell")
    assert_refused(call_on(command, own_workload, tmp_path), "manifest.json", *other_schema(1))
    assert file.read_text() == OF_THE_FIRST_SCHEMA
    assert [one.read_bytes() for one in cell.parent.iterdir()] == [b"a cell"]


def test_after_a_damaged_manifest_is_deleted_another_run_measures_nothing(copied, own_workload):
    cells = {file.name: file.stat().st_mtime_ns for file in (copied / "cells").iterdir()}
    (copied / "manifest.json").unlink()
    assert call_on(("run", *QUICK), own_workload, copied).returncode == 0
    assert {file.name: file.stat().st_mtime_ns for file in (copied / "cells").iterdir()} == cells
    assert call_here("report", "--results", copied).returncode == 0


IN_THE_WAY = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@COMMANDS
@pytest.mark.parametrize("kind", IN_THE_WAY)
@pytest.mark.parametrize("name", ["a cell", "manifest.json"])
def test_what_is_no_file_is_refused_at_once(command, kind, name, copied, own_workload):
    path = cell_of(copied) if name == "a cell" else copied / name
    path.unlink()
    IN_THE_WAY[kind](path)
    words = ("is a broken link: remove it",) if "link" in kind else (f"is {kind}, not a file: remove it",)
    assert_refused(call_on(command, own_workload, copied), str(path), *words)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((("run", *QUICK), name) for name in ("cells", "lock", "lock.holder")),
        *((("report",), name) for name in ("cells", "report", "report.lock", "report/figures")),
    ],
)
def test_a_folder_with_something_else_in_the_way_is_one_line(command, name, copied, own_workload):
    """A file where a folder should be, or a folder where a file should be."""
    path = copied / name
    path.parent.mkdir(exist_ok=True)
    if name in ("cells", "report", "report/figures"):
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("in the way")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    done = call_on(command, own_workload, copied)
    assert done.returncode in (0, 2)
    assert "should not happen" not in done.stderr
    if done.returncode:
        assert done.stderr.count("\n") == 1


@COMMANDS
@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_a_file_that_may_not_be_read_is_named(command, suffix, copied, own_workload, monkeypatch):
    """Raised by hand: whoever runs the tests may be allowed to read everything."""
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.suffix == suffix and path.is_relative_to(copied):
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert_refused(call_on(command, own_workload, copied), "cannot read", "(Permission denied): make it readable")


@pytest.mark.parametrize("name", ["a cell", "manifest.json"])
def test_a_file_without_end_is_refused(name, copied):
    path = cell_of(copied) if name == "a cell" else copied / name
    os.truncate(path, 2**41)
    assert_refused(call_here("report", "--results", copied), path.name, "larger than any file of the suite")
