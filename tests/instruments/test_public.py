"""The instruments as a library."""

import subprocess
import sys

from suite import instruments
from tests.command import ROOT


def test_every_public_name_is_there_and_has_a_docstring():
    assert all(getattr(instruments, name).__doc__ for name in instruments.__all__)


def test_the_instruments_import_no_figures_claims_or_cells():
    program = "import sys, suite.instruments; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    rooms = {".".join(name.split(".")[:2]) for name in done.stdout.split()}
    assert not rooms & {
        "matplotlib",
        "seaborn",
        "suite.claims",
        "suite.experiments",
        "suite.studies",
        "suite.figures",
    }
