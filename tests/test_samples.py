"""The committed samples: they are what the package makes, and they hold what their README says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from chromamol import samples

FOLDER = Path(__file__).parents[1] / "data_samples"


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    stack = tifffile.imread(FOLDER / samples.NANOSCOPE_TRUTH).astype(np.float64)
    names = ("gamma_me_per_um2", "gamma_ac_per_um2", "phi_h", "phi_e", "mask")
    return dict(zip(names, np.round(stack, samples.DECIMALS), strict=True))


def test_images_of_the_nucleus_come_out_of_its_truth_bit_for_bit(
    truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    samples.expose_nanoscope(truth["phi_h"], truth["phi_e"], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert samples.differing(FOLDER, tmp_path) == []


def test_a_changed_sample_is_noticed(truth: dict[str, np.ndarray], tmp_path: Path) -> None:
    samples.expose_nanoscope(truth["phi_h"] + 1e-3, truth["phi_e"], tmp_path)
    assert "nucleus_two_channel.ome.tif" in samples.differing(FOLDER, tmp_path)


def test_the_truth_is_balanced_and_conserves_chromatin(truth: dict[str, np.ndarray]) -> None:
    inside = truth["mask"] > 0
    made = (truth["gamma_me_per_um2"] * truth["phi_e"])[inside].mean()
    lost = (truth["gamma_ac_per_um2"] * truth["phi_h"])[inside].mean()
    assert made / lost == pytest.approx(1.0, abs=1e-3)
    assert (truth["phi_h"] + truth["phi_e"])[inside].mean() == pytest.approx(0.5, abs=1e-5)
    assert (truth["phi_h"] + truth["phi_e"])[~inside].max() == 0.0


def test_sums_in_the_readme_are_those_of_the_files() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    files = [p for p in FOLDER.rglob("*") if p.suffix in {".tif", ".csv"}]
    assert len(files) >= 6
    for line in samples.checksums(sorted(files), FOLDER):
        assert line in readme


def test_labels_of_the_field_fit_its_table() -> None:
    labels = tifffile.imread(FOLDER / "truth" / "field_confocal_labels.tif")
    rows = (FOLDER / "truth" / "field_confocal_rates.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [int(r.split(",")[0]) for r in rows] == list(range(1, labels.max() + 1))
    for row in rows:
        _, methylation, acetylation, ratio, _ = (float(v) for v in row.split(","))
        assert methylation / acetylation == pytest.approx(ratio, abs=1e-4)
