"""Nuclei of real microscopes, and simulated ones, against labels that no method was tuned on."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromamol import datasets
from chromamol.benchmarks.segmentation import dice, simulated_field
from chromamol.io import read_image, read_labels
from chromamol.nucleus import Score, match_labels, segment_nuclei
from chromamol.nucleus.training.fields import kept_out

SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
FIELDS = "nuclei_dsb2018/"
PIXEL_UM = 0.0515


def kept_out_fields():
    names = [
        n.removeprefix(FIELDS) for n in datasets.names() if n.startswith(FIELDS) and not n.endswith("_labels")
    ]
    return [n for n in names if kept_out(n)][::9]


def pooled(sample, method):
    score = Score()
    for name in kept_out_fields():
        image = read_image(sample(FIELDS + name)).data[0]
        labels = read_labels(sample(f"{FIELDS}{name}_labels"), shape=image.shape)
        score += match_labels(segment_nuclei(image, method=method), labels)
    return score


def test_the_network_beats_the_classical_method_on_kept_out_fields(sample):
    network, classical = pooled(sample, "network"), pooled(sample, "classical")
    assert network.f1 > classical.f1 + 0.01
    assert classical.f1 > 0.85


def test_crowded_field(sample):
    image = read_image(sample("stardist_img2d")).data[0]
    labels = read_labels(sample("stardist_mask2d"), shape=image.shape)
    assert match_labels(segment_nuclei(image), labels).f1 >= 0.90


@pytest.mark.parametrize("pixel_size_um", [None, (1.75, 0.8, 0.8)])
def test_embryo_in_3d(sample, pixel_size_um):
    stack = read_image(sample("qcanet_16_cell_stage"), axes="ZYX").data[0]
    mask = read_image(sample("qcanet_16_cell_stage_labels"), axes="ZYX").data[0] > 0
    truth, count = ndimage.label(mask)
    assert count == 16  # the file is a mask; none of the 16 cells touches another
    found = segment_nuclei(stack, pixel_size_um=pixel_size_um)
    assert match_labels(found, truth.astype(np.int32)).f1 >= 0.80


@pytest.mark.parametrize(
    ("name", "channel", "pixel_size_um", "counts"),
    [
        ("hela_cells", 2, PIXEL_UM, (4, 4)),
        ("bbbc022_u2os", 0, None, (22, 28)),
        ("speckles_hoechst", 0, None, (6, 9)),
    ],
)
@pytest.mark.parametrize("method", ["network", "classical"])
def test_other_microscopes(sample, name, channel, pixel_size_um, counts, method):
    image = read_image(sample(name)).data[channel]
    labels = segment_nuclei(image, pixel_size_um=pixel_size_um, method=method)
    assert counts[0] <= labels.max() <= counts[1]
    sizes = np.bincount(labels.ravel())[1:]
    assert sizes.min() > 0.05 * np.median(sizes)


@pytest.mark.parametrize("method", ["network", "classical"])
def test_a_burned_in_box_is_no_nucleus_and_no_background(sample, method):
    image = read_image(sample("hela_cells")).data[2]
    box = np.zeros(image.shape, dtype=bool)
    parts, _ = ndimage.label(image == image.min())
    box |= parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    assert box.sum() > 1000
    labels = segment_nuclei(image, pixel_size_um=PIXEL_UM, method=method)
    assert not labels[box].any()


@pytest.mark.parametrize("pixel_size_um", [None, 0.1])
def test_simulated_nuclei_to_the_pixel(pixel_size_um):
    field = simulated_field(0)
    found = segment_nuclei(field.image, pixel_size_um=pixel_size_um)
    assert found.max() == field.labels.max()
    assert dice(found, field.labels) > 0.97


@pytest.mark.parametrize("method", ["network", "classical"])
def test_nuclei_of_simulated_chromatin_to_the_pixel(method):
    field = read_image(SAMPLES / "field_confocal.tif")
    truth = read_labels(SAMPLES / "truth" / "field_confocal_labels.tif", shape=field.shape)
    found = segment_nuclei(field.data[0], pixel_size_um=field.pixel_size_um, method=method)
    assert found.max() == truth.max()
    assert dice(found, truth) > 0.97


@pytest.mark.parametrize("method", ["network", "classical"])
def test_dense_domains_are_no_nuclei_even_without_a_pixel_size(method):
    field = read_image(SAMPLES / "field_confocal.tif")
    truth = read_labels(SAMPLES / "truth" / "field_confocal_labels.tif", shape=field.shape)
    found = segment_nuclei(field.data[0], method=method)
    assert found.max() == 6
    assert dice(found, truth) > 0.97


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_the_scale_of_the_image_does_not_matter(factor):
    field = simulated_field(1)
    image = ndimage.zoom(field.image.astype(np.float32), factor, order=1, grid_mode=True, mode="nearest")
    truth = ndimage.zoom(field.labels, factor, order=0, grid_mode=True, mode="nearest")
    found = segment_nuclei(image)
    assert found.max() == truth.max()
    assert dice(found, truth) > 0.96


def test_a_stack_of_balls_with_coarse_planes():
    spacing = (0.8, 0.2, 0.2)
    z, y, x = (np.arange(n) * h for n, h in zip((24, 140, 180), spacing, strict=True))
    truth = np.zeros((24, 140, 180), dtype=np.int32)
    for name, (cz, cy, cx) in enumerate([(8, 8, 8), (10, 14.5, 17), (8, 8, 26), (11, 20, 8)], start=1):
        truth[(z[:, None, None] - cz) ** 2 + (y[:, None] - cy) ** 2 + (x - cx) ** 2 < 4.5**2] = name
    light = ndimage.gaussian_filter(400.0 * (truth > 0), (0.8, 1, 1))
    stack = np.random.default_rng(0).poisson(60 + light).astype(np.uint16)
    found = segment_nuclei(stack, pixel_size_um=spacing)
    assert found.max() == 4
    assert dice(found, truth) > 0.93
