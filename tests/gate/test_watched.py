from importlib import import_module
from pathlib import Path

from benchmarks.gate import watched
from benchmarks.gate.measuring import tracks


def test_the_watched_modules_exist():
    import_module(watched.PACKAGE)
    assert all(list(tracks(import_module(name))) for name in watched.FINDINGS)
    assert import_module(watched.RATIOS).PAIRS


def test_no_other_file_of_the_gate_names_the_package():
    """Except for the planted regressions, which are planted into it."""
    for file in Path(watched.__file__).parent.glob("*.py"):
        if file.name not in ("watched.py", "planted.py"):
            text = file.read_text()
            assert not any(name in text for name in (watched.PACKAGE, *watched.FINDINGS, watched.RATIOS)), file.name
