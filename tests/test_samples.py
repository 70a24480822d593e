"""The committed samples: images are what the package makes of their truth, and they hold what their README says."""

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


def test_every_image_and_table_has_its_truth() -> None:
    folders = ("two_channel", "comparison/control", "comparison/treated", "storm", "z_stack")
    files = [path for folder in folders for path in (FOLDER / folder).iterdir()]
    assert len(files) == 9
    for path in files:
        rows = (FOLDER / "truth" / f"{path.stem}_nuclei.csv").read_text(encoding="utf-8").splitlines()
        assert len(rows) > 1
        if path.parent.name in ("two_channel", "control", "treated"):
            labels = tifffile.imread(FOLDER / "truth" / f"{path.stem}_labels.tif")
            assert labels.shape == tifffile.imread(path).shape[-2:]
            assert labels.max() == len(rows) - 1


def test_treated_nuclei_have_half_as_much_acetylation_more_and_less_heterochromatin() -> None:
    tables = {
        arm: [np.genfromtxt(FOLDER / "truth" / f"{arm}_replicate{i}_nuclei.csv", delimiter=",", names=True, dtype=None,
                            encoding="utf-8") for i in (1, 2, 3)]
        for arm in ("control", "treated")
    }  # fmt: skip
    assert all(len(t) == 4 for dishes in tables.values() for t in dishes)
    means = {
        column: [np.mean([t[column].mean() for t in tables[arm]]) for arm in ("control", "treated")]
        for column in ("gamma_ac_per_um2", "heterochromatin_fraction")
    }
    # Dishes and nuclei differ by 5 % each: three dishes of four nuclei are good to about 5 %.
    assert means["gamma_ac_per_um2"][1] / means["gamma_ac_per_um2"][0] == pytest.approx(1.5, rel=0.1)
    assert means["heterochromatin_fraction"][1] < means["heterochromatin_fraction"][0] - 0.05


def test_the_film_is_that_of_an_inhibitor() -> None:
    frames = np.genfromtxt(FOLDER / "truth" / "inhibitor_movie_frames.csv", delimiter=",", names=True)
    film = tifffile.imread(FOLDER / "time_lapse" / "inhibitor_movie.tif")
    assert len(film) == len(frames) == 12
    assert np.all(np.diff(frames["heterochromatin_fraction"]) < 0.0)


def test_localisations_are_denser_where_chromatin_is() -> None:
    table = np.genfromtxt(
        FOLDER / "storm" / "nucleus_storm.csv", delimiter=",", skip_header=1, usecols=(2, 3)
    )
    truth = tifffile.imread(FOLDER / "truth" / "nucleus_storm_truth.ome.tif")
    total = truth[2] + truth[3]
    x, y = np.clip((table.T / 20.0).astype(int), 0, np.array(total.shape[::-1])[:, None] - 1)
    counts = np.zeros(total.shape)
    np.add.at(counts, (y, x), 1.0)
    inside, dense = total > 0.05, truth[2] > 0.5
    ratio = counts[dense].mean() / counts[inside & ~dense].mean()
    # errors of 5 nm carry a little light over the interface
    assert ratio == pytest.approx(total[dense].mean() / total[inside & ~dense].mean(), rel=0.1)
    assert counts.sum() * 0.9 < counts[inside].sum()


def test_the_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8e6
