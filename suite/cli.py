"""The command line: a thin door. Heavy imports stand inside the commands, so that --help answers at once."""

import os
import shlex
import sys
import traceback
import warnings
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from suite.errors import DEBUG, SEE_WHERE, UserError, last_line, user_function

REPORT = f"Set {DEBUG}=1 to see where, and report it with the command and the workload: see CONTRIBUTING.md"


class _Escaped(Exception):
    """Carries a KeyboardInterrupt or EOFError of a user's code past Typer, which would end without a word."""


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: typer.Context):
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError) as error:
            raise _Escaped from error


app = typer.Typer(
    cls=_Commands,
    help="Small batch or large batch? A lecture's table of six rows, measured on your machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of the stored results.", metavar="DIR")]


def _show_version(asked: bool) -> None:
    from suite import __version__

    if asked:
        print(f"suite {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command("list")
def list_() -> None:
    """Show the workloads, claims, backends and presets."""
    from suite.backends import BACKENDS
    from suite.claims import all_claims
    from suite.runs.plan import PRESETS
    from suite.studies import all_studies
    from suite.workloads import find, names

    _section("Workloads", {name: find(name).about for name in names()})
    _section("Claims", {claim.name: claim.says for claim in all_claims()})
    _section("Studies", {study.name: f"{study.title} (under {study.claim})" for study in all_studies()})
    _section(
        "Backends",
        {
            backend.name: backend.about + (f" (unavailable: {why})" if (why := backend.unavailable()) else "")
            for backend in BACKENDS.values()
        },
    )
    _section(
        "Presets",
        {name: f"{p.seeds} seeds, {p.processes} processes of each timing" for name, p in PRESETS.items()},
    )


def _section(title: str, entries: dict[str, str]) -> None:
    width = max(map(len, entries))
    print(title)
    for name, about in entries.items():
        print(f"  {name:<{width}}  {about}")


@app.command()
def run(
    workload: Annotated[
        list[str] | None,
        typer.Argument(help="Names of workloads, or paths of Python files that hold one.", show_default="digits"),
    ] = None,
    preset: Annotated[str, typer.Option(help="How thoroughly: quick, default or full.")] = "default",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Time on these backends only; train on the accelerator among them, else on the CPU.",
            show_default="all that are available",
        ),
    ] = None,
    claim: Annotated[list[str] | None, typer.Option(help="Only these claims.", show_default="all")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds of each training.", show_default="the preset's")] = None,
    engine: Annotated[
        str, typer.Option(help="How replicas are trained: ensemble, many in one call, or plain, one after another.")
    ] = "ensemble",
    workers: Annotated[
        int | None, typer.Option(help="Trainings side by side.", show_default="one per core, one on an accelerator")
    ] = None,
    results: ResultsOption = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and measure nothing.")] = False,
) -> None:
    """Measure the cells of every claim that are not stored yet. After a stop the same command goes on from there."""
    from suite.backends import BACKENDS
    from suite.claims import find
    from suite.runs import progress
    from suite.runs.plan import default_workers, find_backends, find_engine, find_preset, plan_all
    from suite.runs.run import run as run_plans
    from suite.runs.store import Results

    for name, number in (("--seeds", seeds), ("--workers", workers)):
        if number is not None and number < 1:
            raise UserError(f"{name} {number}: give a number of 1 or more")
    claims = [find(name) for name in claim or []]
    chosen, backends = find_preset(preset), find_backends(backend or [])
    plans = plan_all(workload or ["digits"], claims, chosen, backends, seeds, find_engine(engine))
    for name in backend or []:
        if reason := BACKENDS[name].unavailable():
            _warn(f"backend {name}: {reason}; its cells are stored as unavailable, and measured once there is one")
    stored, workers = Results(results), workers or default_workers(plans)
    if dry_run:
        progress.print_plan(plans, stored, workers)
        return
    with progress.shown() as show:
        run_plans(plans, stored, workers, show)
    where = "" if results == Path("results") else f" --results {shlex.quote(str(results))}"
    print(f"stored in {results}; `suite report{where}` makes the page of it", file=sys.stderr)


@app.command()
def report(results: ResultsOption = Path("results")) -> None:
    """Make the page, the table and the figures from stored results."""
    from suite.report import write_report
    from suite.runs.store import Results

    print(f"wrote {write_report(Results(results))}")


@app.command()
def advise(
    workload: Annotated[
        str, typer.Argument(help="Name of a workload, or path of a Python file that holds one.")
    ] = "digits",
    backend: Annotated[
        str | None,
        typer.Option(
            help="Where updates run; `suite list` shows the backends.", show_default="the fastest available"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of each training, 2 or more.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="Train and time the recommended batch sizes; refine the rate."),
    ] = True,
    results: ResultsOption = Path("results"),
) -> None:
    """Recommend a batch size for this machine: measured, predicted, and then checked."""
    from suite.advise.command import advise_on
    from suite.runs.plan import find_backends

    if seeds < 2:
        raise UserError(f"--seeds {seeds}: give 2 or more, an interval needs them")
    find_backends([backend] if backend else [])
    advise_on(workload, backend, seeds, verify, results, json)


@app.command()
def sysinfo() -> None:
    """Show what is recorded about this machine with every result."""
    from suite.machine import describe

    _section("This machine", describe())


def _show_warning(message: Warning, *_) -> None:
    _warn(str(message))


@cache
def _warn(message: str) -> None:
    """A warning in one line, the same one once."""
    print(f"suite: warning: {message}", file=sys.stderr)


def _command_of(error: typer.TyperException) -> str:
    """The command whose help lists what was mistyped."""
    context = getattr(error, "ctx", None)
    return f"suite {context.info_name}" if context and context.parent else "suite"


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and exit code 2, an error of the suite's exit code
    1."""
    warnings.showwarning = _show_warning
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        message, code = str(error), 2
    except typer.TyperException as error:
        message, code = f"{error.format_message()} See `{_command_of(error)} --help`.", 2
    except BaseException as raised:
        error = raised.__cause__ if isinstance(raised, _Escaped) else raised
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        if where := user_function(error):
            message, code = f"{where} raises {last_line(error)} ({SEE_WHERE})", 2
        else:
            message, code = f"an error that should not happen, {last_line(error)}. {REPORT}", 1
    else:
        sys.exit(code or 0)
    print(f"suite: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
