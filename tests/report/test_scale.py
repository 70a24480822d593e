"""The report says how intensity became volume fraction, and what 5 % of it would do."""

from chromamol.report.scale import scale_facts
from chromamol.report.tables import DetailWriter


def write(folder, **tables):
    with DetailWriter(folder) as details:
        details.add(tables)


def test_scale_and_its_effect_are_said_in_words(tmp_path):
    common = {"image": "a", "plane": "total", "scale": "water", "dark_level": 100.0}
    scales = [{**common, "nucleus": i, "gain": 1000.0 * i} for i in (1, 2)]
    rates = {"gamma_ac_per_um2": float("nan"), "rate_ratio": 0.5, "image": "a", "nucleus": 2}
    rows = [
        {**rates, "change": "none", "gamma_me_per_um2": 2.0},
        {**rates, "change": "gain +5 %", "gamma_me_per_um2": 2.8},
    ]
    write(tmp_path, calibration=scales, sensitivity=rows)
    facts = dict(scale_facts(tmp_path)["a"])
    assert "scale by water, dark level 100, gain 1" in facts["intensity scale"]
    assert "gain +5 %: Γme × 1.40, ratio × 1.00" in facts["if the scale were wrong"]
    assert "Γac" not in facts["if the scale were wrong"], "what is not estimable has no factor"


def test_it_is_said_why_the_step_between_the_phases_is_no_scale(tmp_path):
    common = {"image": "a", "plane": "total", "scale": "water", "dark_level": 100.0, "gain": 1000.0}
    rows = [
        {**common, "nucleus": i, "note": note} for i, note in enumerate(("", "this is why", "so is that"), 1)
    ]
    write(tmp_path, calibration=rows)
    ((_, text),) = scale_facts(tmp_path)["a"]
    assert text.endswith("per unit of volume fraction (nucleus 2: this is why; 1 others likewise)")


def test_a_folder_without_these_tables_has_nothing_to_say(tmp_path):
    assert scale_facts(tmp_path) == {}
