"""Training: the split is fixed, every crop is reproducible, a cut-off training goes on, and something is learnt."""

import numpy as np
import pytest
import torch

from chromamol import datasets
from chromamol.errors import ParameterError, ReadError
from chromamol.nucleus.network.model import DIAMETER, NucleusNet
from chromamol.nucleus.training.augment import SIDE, variant
from chromamol.nucleus.training.fields import FINENESS, LabelledField, at_common_scale, kept_out, names_of
from chromamol.nucleus.training.fit import Crops, TrainingSettings, fit
from chromamol.nucleus.training.targets import TARGETS, loss_of, targets_of


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(0)
    y, x = np.indices((150, 150))
    labels = np.zeros((150, 150), dtype=np.int32)
    for name in range(1, 13):
        cy, cx = 20 + 36 * ((name - 1) // 4), 20 + 36 * ((name - 1) % 4)
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 12**2] = name
    image = rng.poisson(20 + 150 * (labels > 0)).astype(np.uint8)
    return at_common_scale(LabelledField("discs", image, labels))


def small(**values):
    return TrainingSettings(batch=2, warm_up=2, bfloat16=False, **values)


def test_the_halves_are_fixed():
    names = [n.removeprefix("nuclei_dsb2018/") for n in datasets.names() if n.startswith("nuclei_dsb2018/")]
    fields = [n for n in names if not n.endswith("_labels")]
    assert len(fields) == 398
    assert sum(map(kept_out, fields)) == 198
    assert kept_out("003cee89357d")
    assert not kept_out("0287e7ee5b00")


def test_fields_come_at_one_scale(field):
    areas = np.bincount(field.labels.ravel())[1:]
    assert np.sqrt(4 * np.median(areas) / np.pi) == pytest.approx(FINENESS * DIAMETER, rel=0.03)
    assert np.percentile(field.image, [1, 99.8]) == pytest.approx([0, 1], abs=0.15)
    assert len(field.centres) == 12


def test_targets_point_to_centres_and_outside_the_field_nothing_counts():
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[5:26, 10:41] = 3
    inside = np.ones(labels.shape, dtype=bool)
    inside[:, :15] = False
    target = targets_of(labels, inside)
    assert target.shape == (TARGETS, 40, 60)
    y, x = np.indices(labels.shape)
    own = labels == 3
    np.testing.assert_allclose((y + target[2] * DIAMETER / 2)[own], 15, atol=1e-4)
    np.testing.assert_allclose((x + target[3] * DIAMETER / 2)[own], 25, atol=1e-4)
    assert target[1].max() == 1
    assert np.all(target[4][~inside] == 0)
    assert np.all(target[4][inside] > 0)


def test_the_right_answer_has_the_least_loss():
    labels = np.zeros((64, 64), dtype=np.int32)
    labels[10:30, 10:30], labels[30:50, 10:30] = 1, 2
    target = torch.from_numpy(targets_of(labels, np.ones((64, 64), dtype=bool)))[None]
    right = torch.cat([20 * target[:, :1] - 10, torch.logit(target[:, 1:2], eps=1e-4), target[:, 2:4]], dim=1)
    least = loss_of(right, target)
    for channel in range(4):
        worse = right.clone()
        worse[:, channel] += 12.0
        assert loss_of(worse, target) > least + 0.02
    wrong_outside = right.clone()
    masked = target.clone()
    masked[:, 4, :8] = 0
    wrong_outside[:, :, :8] += 5.0
    torch.testing.assert_close(loss_of(wrong_outside, masked), loss_of(right, masked))


def test_crops_are_the_same_for_a_seed_and_differ_between_seeds(field):
    one, again, other = (variant(field, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one[0].shape == (SIDE, SIDE)
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert np.any(one[0] != other[0])


def test_crops_show_nuclei_of_many_sizes_and_some_nothing(field):
    sizes, empty = [], 0
    for seed in range(80):
        image, labels, inside = variant(field, np.random.default_rng(seed))
        assert np.isfinite(image).all()
        assert inside.mean() > 0.2
        areas = np.bincount(labels.ravel())[1:]
        empty += not areas.any()
        sizes.extend([np.sqrt(4 * areas.max() / np.pi)] if areas.any() else [])
    assert min(sizes) < 0.8 * DIAMETER < 1.4 * DIAMETER < max(sizes)
    assert 0 < empty < 20


def test_a_training_that_was_cut_off_ends_the_same(field, tmp_path):
    whole = fit([field], small(steps=4), checkpoint=tmp_path / "whole.pt", every=2)

    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        fit([field], small(steps=4), checkpoint=tmp_path / "cut.pt", report=stop, every=2)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["step"] == 2
    resumed = fit([field], small(steps=4), checkpoint=tmp_path / "cut.pt", every=2)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)
    with pytest.raises(ParameterError, match="checkpoint"):
        fit([field], small(steps=5), checkpoint=tmp_path / "cut.pt")


def test_training_goes_on_from_other_weights(field, tmp_path):
    fit([field], small(steps=2), checkpoint=tmp_path / "first.pt", every=2)
    mean = torch.load(tmp_path / "first.pt", weights_only=True)["mean"]
    still = fit([field], small(steps=1, rate=0.0, seed=1), origin=tmp_path / "first.pt", every=1)
    torch.testing.assert_close(still.head.weight, mean["head.weight"])


def test_residual_blocks_add_nothing_at_first_and_learn_when_asked_to(field, tmp_path):
    torch.manual_seed(0)
    net = NucleusNet(norm=True).eval()
    seen = torch.randn(1, 2, 64, 64)
    before = net(seen)
    for block in net.deeper:
        torch.nn.init.normal_(block.first.weight)
    torch.testing.assert_close(net(seen), before)
    fit([field], small(steps=2, deeper=False), checkpoint=tmp_path / "shallow.pt", every=2)
    fit([field], small(steps=2), checkpoint=tmp_path / "deep.pt", every=2)
    shallow, deep = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True)["model"]["deeper.0.second_norm.weight"]
        for name in ("shallow", "deep")
    )
    assert torch.all(shallow == 0)
    assert torch.any(deep != 0)


def test_faithful_crops_keep_the_light_of_the_field(field):
    for seed in range(6):
        image, labels, inside = variant(field, np.random.default_rng(seed), faithful=1.0)
        if labels.any():
            assert np.median(image[(labels > 0) & inside]) == pytest.approx(
                np.median(field.image[field.labels > 0]), rel=0.4
            )


def test_small_nuclei_weigh_as_much_as_asked():
    labels = np.zeros((40, 40), dtype=np.int32)
    labels[10:13, 10:13] = 1
    inside = np.ones(labels.shape, dtype=bool)
    for heaviest in (2.5, 4.0):
        assert targets_of(labels, inside, heaviest=heaviest)[4].max() == heaviest


def test_a_schedule_can_be_left_early(field):
    steps = []
    fit([field], small(steps=4), until=2, report=lambda step, loss: steps.append(step), every=1)
    assert steps == [1, 2]


def test_something_is_learnt(field):
    losses = []
    fit([field], small(steps=24), report=lambda step, loss: losses.append(loss), every=6)
    assert losses[-1] < 0.75 * losses[0]


def test_resuming_starts_with_the_next_crop(field):
    settings = small(steps=4)
    whole, later = Crops([field], settings, 0), Crops([field], settings, 3)
    assert len(later) == 2
    torch.testing.assert_close(later[0][0], whole[6][0])


def test_a_folder_without_fields_is_refused(tmp_path):
    with pytest.raises(ReadError, match="NAME"):
        names_of(tmp_path)
