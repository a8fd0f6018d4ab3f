"""Where the results of a report come from."""

from suite.experiments.training import TRAINING
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.report.sections import Section

NAMES = {
    "machine": "Machine",
    "gpu": "GPU",
    "system": "System",
    "python": "Python",
    "torch": "torch",
    "numpy": "NumPy",
    "asv": "asv",
    "suite": "Suite",
    "commit": "Commit",
}


def measured_by(sections: list[Section]) -> list[tuple[str, str]]:
    """Facts about the machine and its software, each with all of its values where cells differ."""
    provenance = [metadata for section in sections for metadata in section.provenance]
    return [
        (name, "; ".join(sorted({metadata[key] for metadata in provenance if key in metadata})))
        for key, name in NAMES.items()
    ]


def trained_on(sections: list[Section]) -> str:
    """The backends of the workloads' own trainings, in words; empty where nothing was trained."""
    trainings = (TRAINING.name, TUNED_TRAINING.name)
    backends = {
        metadata["key_fields"]["backend"]
        for section in sections
        for metadata in section.provenance
        if metadata["key_fields"]["measurement"] in trainings and metadata["key_fields"]["device"] != "none"
    }
    return " and ".join(sorted(backends))
