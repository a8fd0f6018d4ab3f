from pathlib import Path

from suite.timing.settings import TimingSettings


def test_settings_survive_the_environment():
    settings = TimingSettings("mnist", 4, Path("data.pt"), Path("references"))
    assert TimingSettings.of(settings.variables()) == settings


def test_a_plain_run_of_asv_has_the_defaults():
    assert TimingSettings.of({}) == TimingSettings("digits", None, None, None)


def test_empty_variables_count_as_not_set():
    empty = {"SUITE_THREADS": "", "SUITE_DATA": "", "SUITE_REFERENCES": ""}
    assert TimingSettings.of(empty) == TimingSettings()
