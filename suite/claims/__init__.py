"""The rows of the lecture's table, one file each: a file that holds `claim = Claim(...)` is found."""

import importlib
import pkgutil
from functools import cache

from suite.claims.claim import Check, Claim, Comparison, Row
from suite.errors import UserError

__all__ = ["Check", "Claim", "Comparison", "Row", "all_claims", "find"]


@cache
def all_claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the table."""
    modules = (importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__))
    claims = [module.claim for module in modules if isinstance(getattr(module, "claim", None), Claim)]
    return tuple(sorted(claims, key=lambda claim: claim.row))


def find(name: str) -> Claim:
    """The claim called `name`. Raises UserError when there is none."""
    for claim in all_claims():
        if claim.name == name:
            return claim
    raise UserError(f"no claim '{name}': choose from {', '.join(claim.name for claim in all_claims())}")
