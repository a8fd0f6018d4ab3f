"""What claims read off the looks at trainings: how each ended, and where it crossed its target."""

import numpy as np
import pandas as pd

from suite.claims.claim import Evidence, Facts, status_of
from suite.claims.drawing import thousands
from suite.statistics import value_at_crossing
from suite.training.protocol import Protocol


def by_protocol(evidence: Evidence, batch_size: int, protocols: dict[str, Protocol]) -> dict[str, pd.DataFrame]:
    """The looks at the trainings with `batch_size` by each of `protocols`, under its name."""
    rows = evidence.rows[evidence.rows["batch_size"] == batch_size]
    return {name: rows[rows["protocol"] == protocol.key] for name, protocol in protocols.items()}


def at_the_end(rows: pd.DataFrame) -> pd.DataFrame:
    """The last look at each replica that was trained."""
    return rows.dropna(subset=["seed"]).sort_values("updates").groupby(["batch_size", "seed"]).tail(1)


def paired(rows: pd.DataFrame, batch_size: int, column: str) -> pd.Series:
    """`column` of each seed at the end of training with `batch_size`."""
    end = at_the_end(rows)
    return end[end["batch_size"] == batch_size].set_index("seed")[column].sort_index()


def log_loss(rows: pd.DataFrame, batch_size: int) -> pd.Series:
    """Log of each seed's training loss at the end; a loss of zero counts as 1e-12."""
    return np.log(paired(rows, batch_size, "train_loss").clip(lower=1e-12))


def log_ratios(rows: pd.DataFrame, others: pd.DataFrame, batch_size: int) -> pd.Series:
    """Log of each seed's training loss at the end over that of the same seed among `others`."""
    return log_loss(rows, batch_size) - log_loss(others, batch_size)


def at_target(rows: pd.DataFrame, facts: Facts, column: str) -> pd.DataFrame:
    """`column` where the training loss crosses the target: a row per seed, a column per batch size."""
    read = dict.fromkeys(["batch_size", "seed", "updates", "train_loss", column])
    looks = rows.loc[rows["status"] == "ok", list(read)].sort_values("updates")
    crossings = {
        each: value_at_crossing(of_seed["train_loss"].to_numpy(), of_seed[column].to_numpy(), facts.target_loss)
        for each, of_seed in looks.groupby(["batch_size", "seed"])
    }
    if not crossings:
        return pd.DataFrame()
    return pd.Series(crossings).rename_axis(["batch_size", "seed"]).unstack("batch_size")


def troubles(rows: pd.DataFrame, facts: Facts) -> tuple[str, str]:
    """The status of the comparison of Small with Large, and how many replicas it comes from."""
    for batch_size in (facts.small, facts.large):
        of_size = rows[rows["batch_size"] == batch_size]
        status, reason = trouble(of_size, f"at batch size {thousands(batch_size)}")
        if status != "ok":
            return status, reason
    return "ok", ""


def without_value(rows: pd.DataFrame, where: str = "") -> str:
    """How many replicas `where` have no value and why, or why the whole cell has none; empty where all have one."""
    end = at_the_end(rows)
    if end.empty:
        status, reason = status_of(rows)
        return f"{_words(status)}{where}, {reason}"
    counts = end.loc[end["status"] != "ok", "status"].value_counts()
    return " and ".join(_share(count, end, where, status) for status, count in counts.items())


def left_out(rows: pd.DataFrame) -> str:
    """That a mean over seeds leaves some out; empty where it does not."""
    lacking = without_value(rows)
    return f" Seeds without a value are left out ({lacking})." if lacking else ""


def _share(count: int, end: pd.DataFrame, where: str, status: str) -> str:
    return f"{count} of {len(end)} seeds{where}: {_words(status)}"


def _words(status: str) -> str:
    return status.replace("_", " ")


def trouble(rows: pd.DataFrame, where: str) -> tuple[str, str]:
    """The status of trainings of one batch size, and how many replicas `where` it comes from."""
    end = at_the_end(rows)
    if end.empty:
        return status_of(rows)
    for status in ("diverged", "target_not_reached"):
        if count := int((end["status"] == status).sum()):
            return status, _share(count, end, f" {where}", status)
    return "ok", ""
