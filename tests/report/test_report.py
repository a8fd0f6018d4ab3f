import itertools
import json
import re
import shutil

import pandas as pd
import pytest
from filelock import FileLock, Timeout

from suite.backends import ACCELERATORS
from suite.claims import all_claims
from suite.formatting import seconds, three_digits
from suite.report import write_report
from suite.runs.store import Results
from tests.command import QUICK, call, call_here, write_workload
from tests.stored import rewrite

COLUMNS = (
    "workload,backend,protocol,claim,lecture_small,lecture_large,small,large,measure,unit,value_small,value_large,"
    "effect,effect_low,effect_high,seeds,verdict,status,flags"
)


FIGURES = 12 + 9
"""One for each claim, and those of the studies in a quick run."""


@pytest.fixture(scope="module")
def page(report):
    return (report / "index.html").read_text()


@pytest.fixture(scope="module")
def table(report):
    return pd.read_csv(report / "table.csv", keep_default_na=False)


def contents(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lines(page: bytes) -> list[str]:
    """What the page says without its pictures: a difference can then be read."""
    return re.sub(r"base64,[^\"]*", "", page.decode()).splitlines()


def test_the_same_results_give_the_same_bytes_anywhere_and_at_any_time(report, measured, tmp_path):
    first = contents(report)
    assert len(first) == 4 + 2 * FIGURES  # page, tables and report.json, and each figure as SVG and PNG
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\nlines.linewidth: 9\n")
    moved = tmp_path / "elsewhere"
    shutil.copytree(measured, moved)
    shutil.rmtree(moved / "report")
    cells = contents(moved / "cells")
    environment = {"MATPLOTLIBRC": str(tmp_path), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "5", "LC_ALL": "C"}
    assert call("report", "--results", moved, folder=tmp_path, **environment).returncode == 0
    assert contents(moved / "cells") == cells, "a report measures nothing"
    again = contents(moved / "report")
    assert lines(again["index.html"]) == lines(first["index.html"])
    assert again == first


def test_a_second_report_of_the_same_results_waits_for_the_first(copied, monkeypatch):
    """Each clears the figures before it draws its own."""

    def write_page(sections, folder):
        with pytest.raises(Timeout):
            FileLock(copied / "report.lock").acquire(timeout=0)
        return folder / "index.html"

    monkeypatch.setattr("suite.report.write_page", write_page)
    write_report(Results(copied))


def test_a_claim_without_a_measured_cell_still_has_its_place_on_the_page(measured, tmp_path):
    """As after a run that was killed before it stored anything."""
    shutil.copy(measured / "manifest.json", tmp_path)
    done = call_here("report", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not measured yet" in (tmp_path / "report" / "index.html").read_text()


def test_the_table_has_the_columns_of_the_contract_and_one_row_each(table):
    assert ",".join(table) == COLUMNS
    assert not table.duplicated(["workload", "backend", "protocol", "claim"]).any()


def test_only_what_was_measured_has_a_verdict(table):
    is_check = table["claim"] == "momentum_sum"
    assert set(table.loc[is_check, "verdict"]) == {"checked"}
    assert set(table.loc[(table["status"] == "ok") & ~is_check, "verdict"]) <= {"holds", "fails", "undecided"}
    assert set(table.loc[table["status"] != "ok", "verdict"]) <= {""}
    assert (table.loc[table["status"] == "ok", "effect"] != "").all()


def test_the_page_stands_alone(page):
    assert "<script" not in page  # and details open without one
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"@import|url\(", page)
    assert 'name="viewport"' in page
    images = re.findall(r"<img[^>]*>", page)
    assert len(images) == FIGURES
    assert all(re.search(r'alt="[^"]+"', image) for image in images)


def test_the_page_has_all_rows_with_effect_or_status(page):
    rows = re.findall(r"<tr>\s*<th scope=\"row\"><a.*?</tr>", page, re.DOTALL)
    titles = [re.search(r">([^<]+)</a>", row).group(1) for row in rows]
    assert set(titles) == {
        "Speed for one update (no parallel)",
        "Speed for one update (with parallel)",
        "Time for one epoch",
        "Gradient",
        "Optimization",
        "Generalization",
        "Flat and sharp minima",
        "Movement",
        "Plateaus (toy)",
        "Local minima (toy)",
        "Momentum saves updates",
        "The noise scale predicts the critical batch size",
    }
    for title in ("Gradient", "Optimization", "Generalization"):
        assert titles.count(title) == 1
    for row in rows:
        assert re.search(r" to |no interval", row) or re.search("unavailable|diverged|not reached|out of memory", row)


def test_a_verdict_can_be_read_without_colour(page):
    for verdict, mark in (("holds", "✓"), ("fails", "✗"), ("undecided", "?"), ("checked", "✓")):
        assert f"{mark} {verdict}" in page


def test_a_backend_that_is_not_there_has_no_row_where_none_is_named(table):
    absent = {backend.name for backend in ACCELERATORS if backend.unavailable()}
    assert not absent & set(table["backend"])


def test_a_named_backend_that_is_not_there_says_why(tmp_path, own_workload):
    absent = next(backend for backend in ACCELERATORS if backend.unavailable())
    asked = ("--preset", "quick", "--claim", "epoch_time", "--backend", absent.name)
    assert call_here("run", own_workload, *asked, "--results", tmp_path).returncode == 0
    assert call_here("report", "--results", tmp_path).returncode == 0
    table = pd.read_csv(tmp_path / "report" / "table.csv")
    assert set(table["backend"]) == {absent.name}
    assert set(table["status"]) == {"unavailable"}
    assert set(table["flags"]) == {absent.unavailable()}
    assert absent.unavailable() in (tmp_path / "report" / "index.html").read_text()


def test_markdown_has_a_line_for_each_row_of_the_page(report, page):
    lines = (report / "table.md").read_text().splitlines()
    tables = [[*group] for filled, group in itertools.groupby(lines, bool) if filled]
    assert len(tables) == 3
    assert sum(len(table) - 2 for table in tables) == page.count('<th scope="row"><a')
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_two_workloads_stand_on_one_page(copied, tmp_path):
    other = write_workload(tmp_path, "other", epochs=2)
    assert call_here("run", other, *QUICK, "--results", copied).returncode == 0
    assert call_here("report", "--results", copied).returncode == 0
    table = pd.read_csv(copied / "report" / "table.csv")
    assert set(table["workload"]) == {"tiny", "other"}
    page = (copied / "report" / "index.html").read_text()
    for name in ("tiny", "other"):
        assert f'<h2 id="workload_{name}">{name}</h2>' in page
        assert f'<a href="#workload_{name}">' in page


def test_missing_cells_are_counted_and_their_rows_say_so(copied):
    for file in (copied / "cells").glob("*.parquet"):
        if "relative_noise" in pd.read_parquet(file):
            file.unlink()
    assert call_here("report", "--results", copied).returncode == 0
    assert "2 cells are not measured yet" in (copied / "report" / "index.html").read_text()
    table = pd.read_csv(copied / "report" / "table.csv", index_col="claim")
    assert table.loc["gradient", "status"] == "unavailable"
    assert table.loc["gradient", "flags"] == "not measured yet"
    assert (table.loc["generalization", "status"] == "ok").all()


def test_running_out_of_memory_is_a_row(copied):
    results = Results(copied)
    for cell in json.loads((copied / "manifest.json").read_text())["workloads"]["tiny"]["claims"]["generalization"]:
        if cell["batch_size"] == 16:
            description = [name for name in cell if name != "key"]
            outcome = {"status": "out_of_memory", "reason": "it was too much"}
            rewrite(results, cell["key"], lambda rows: rows[description].head(1).assign(**outcome))  # noqa: B023
    assert call_here("report", "--results", copied).returncode == 0
    table = pd.read_csv(copied / "report" / "table.csv", index_col="claim")
    assert table.loc["generalization", ["status", "flags"]].iloc[0].tolist() == ["out_of_memory", "it was too much"]
    assert "out of memory" in (copied / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.4e-4, "240 µs"),
        (1.06e-3, "1.06 ms"),
        (0.9999, "1.00 s"),
        (9.47, "9.47 s"),
        (7.11e-7, "711 ns"),
        (364, "364 s"),
    ],
)
def test_times_have_the_unit_that_fits(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(1029.6, "1,030"), (0.0412, "0.0412"), (4.4, "4.40"), (52.77, "52.8")])
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


def test_the_contents_lead_to_every_claim(page):
    contents = re.search(r"<nav.*?</nav>", page, re.DOTALL).group()
    places = re.findall(r'href="#(.*?)"', contents)
    assert len(places) == len(all_claims()) + 2
    assert all(f'id="{place}"' in page for place in places)
