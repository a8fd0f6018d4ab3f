"""Studies under the rows of the table, one file each: a file that holds `study = Study(...)` is found."""

import importlib
import pkgutil
from functools import cache

from suite.studies.study import Study

__all__ = ["Study", "all_studies", "studies_of"]


@cache
def all_studies() -> tuple[Study, ...]:
    """Every study, in the order of its place under its row."""
    modules = (importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__))
    studies = [module.study for module in modules if isinstance(getattr(module, "study", None), Study)]
    return tuple(sorted(studies, key=lambda study: (study.claim, study.place)))


def studies_of(claim: str) -> tuple[Study, ...]:
    """The studies under the row of `claim`."""
    return tuple(study for study in all_studies() if study.claim == claim)
