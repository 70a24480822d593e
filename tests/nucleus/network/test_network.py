"""The network around its weights: what it is told, how large images are cut, how its answer is read."""

import numpy as np
import pytest
import torch

from chromamol.errors import ReadError
from chromamol.nucleus.network import (
    DecodeSettings,
    Maps,
    NucleusNet,
    built_in,
    decode,
    load_weights,
    save_weights,
)
from chromamol.nucleus.network import find as finding
from chromamol.nucleus.network.model import DIAMETER, maps_of
from chromamol.nucleus.network.resize import resize, resize_labels, sample
from chromamol.nucleus.scoring import overlap_matrix
from chromamol.nucleus.training.targets import targets_of


def discs(*circles, shape=(96, 128)):
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.int32)
    for name, (cy, cx, r) in enumerate(circles, start=1):
        labels[((y - cy) ** 2 + (x - cx) ** 2 <= r**2) & (labels == 0)] = name
    return labels


def perfect(labels):
    """What a network without errors would say."""
    target = targets_of(labels, np.ones(labels.shape, dtype=bool))
    return Maps(target[0], target[1], target[2] * DIAMETER / 2, target[3] * DIAMETER / 2)


@pytest.fixture
def untrained():
    torch.manual_seed(0)
    return NucleusNet().eval()


CROWD = discs((20, 20, 11), (20, 41, 11), (40, 30, 12), (60, 90, 15), (70, 20, 6), (95, 60, 10))


def test_perfect_answers_give_the_labels_back():
    np.testing.assert_array_equal(decode(perfect(CROWD), DecodeSettings()), CROWD)


def test_no_nuclei_no_labels():
    nothing = np.zeros((32, 48), dtype=np.int32)
    assert not decode(perfect(nothing), DecodeSettings()).any()


def test_uncertain_and_tiny_nuclei_go():
    maps = perfect(discs((30, 30, 11), (60, 60, 2)))
    assert decode(maps, DecodeSettings()).max() == 1
    shallow = Maps(maps.nuclear, 0.4 * maps.depth, maps.centre_y, maps.centre_x)
    assert not decode(shallow, DecodeSettings()).any()


def test_errors_of_the_centre_within_a_nucleus_do_not_split_it():
    rng = np.random.default_rng(0)
    maps = perfect(CROWD)
    noisy = Maps(maps.nuclear, maps.depth, *(
        (c + rng.normal(0, 1.5, c.shape)).astype(np.float32) for c in (maps.centre_y, maps.centre_x)
    ))  # fmt: skip
    overlap = overlap_matrix(decode(noisy, DecodeSettings()), CROWD)
    assert overlap.shape == (6, 6)
    assert overlap.max(axis=1).min() > 0.85


def test_tiles_say_what_the_whole_image_says(monkeypatch):
    network = built_in()
    image = np.random.default_rng(1).random((200, 760)).astype(np.float32)
    whole = finding.ask(network, image)
    monkeypatch.setattr(finding, "TILE", 640)
    tiled = finding.ask(network, image)
    for name in ("nuclear", "depth", "centre_y", "centre_x"):
        np.testing.assert_allclose(getattr(tiled, name), getattr(whole, name), atol=1e-3)


@pytest.mark.parametrize("length", [100, 1280, 1281, 1400, 3000, 5001])
def test_tiles_cover_every_pixel_once(length):
    seen = np.zeros(length, dtype=int)
    for look, fill, part in finding._tiles(length):
        seen[fill] += 1
        assert look.start + part.start == fill.start
        assert look.stop - look.start <= finding.TILE
    assert np.all(seen == 1)


def test_brightness_and_offset_change_nothing(untrained):
    image = np.random.default_rng(2).random((64, 64)).astype(np.float32)
    one, other = finding.ask(untrained, image), finding.ask(untrained, 300 * image + 1000)
    np.testing.assert_allclose(one.nuclear, other.nuclear, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_images_have_mirrored_answers(axis, untrained):
    image = np.random.default_rng(3).random((70, 50)).astype(np.float32)
    straight, mirrored = (
        finding.ask_mirrored(untrained, i, finding.ask(untrained, i))
        for i in (image, np.flip(image, axis).copy())
    )
    np.testing.assert_allclose(np.flip(mirrored.nuclear, axis), straight.nuclear, atol=1e-5)
    signs = (-1, 1) if axis == 0 else (1, -1)
    np.testing.assert_allclose(signs[0] * np.flip(mirrored.centre_y, axis), straight.centre_y, atol=1e-4)
    np.testing.assert_allclose(signs[1] * np.flip(mirrored.centre_x, axis), straight.centre_x, atol=1e-4)


def test_folding_keeps_the_answer():
    torch.manual_seed(0)
    network = NucleusNet(norm=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
    x = torch.randn(1, 2, 64, 48)
    with torch.no_grad():
        expected, got = network.eval()(x), network.folded()(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_weights_survive_the_file_to_half_precision(untrained, tmp_path):
    save_weights(untrained, tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float16)}
    again = load_weights(tmp_path / "weights.npz")
    x = torch.randn(1, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(x), untrained(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_other_files_are_no_weights(content, tmp_path):
    path = tmp_path / "weights.npz"
    if content is None:
        np.savez(path, one=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(content)
    with pytest.raises(ReadError, match="no weights"):
        load_weights(path)


def test_maps_are_probabilities_and_pixels():
    maps = maps_of(
        torch.stack([torch.zeros(3, 4), torch.full((3, 4), 50.0), torch.ones(3, 4), -torch.ones(3, 4)])
    )
    assert np.all(maps.nuclear == 0.5)
    assert np.all(maps.depth == 1)
    assert np.all(maps.centre_y == DIAMETER / 2)
    assert np.all(maps.centre_x == -DIAMETER / 2)


def test_labels_come_back_from_twice_the_size():
    large = resize_labels(CROWD, (192, 256))
    overlap = overlap_matrix(resize_labels(large, CROWD.shape), CROWD)
    assert np.diag(overlap).min() > 0.9
    areas = np.bincount(large.ravel())[1:] / np.bincount(CROWD.ravel())[1:]
    np.testing.assert_allclose(areas, 4, rtol=0.05)


def test_resizing_keeps_the_light_where_it_was():
    y, x = np.indices((80, 100))
    image = np.exp(-((y - 30) ** 2 + (x - 60) ** 2) / 200).astype(np.float32)
    small = resize(image, 0.5)
    assert small.shape == (40, 50)
    centre = [float((small * (c * 2 + 0.5)).sum() / small.sum()) for c in np.indices(small.shape)]
    np.testing.assert_allclose(centre, (30, 60), atol=0.1)
    np.testing.assert_allclose(sample(image, image.shape, order=1), image)
