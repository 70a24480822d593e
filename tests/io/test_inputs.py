"""What a command line means: which files are read, which are skipped and why, and under which stem."""

import hashlib
import itertools

import numpy as np
import pytest
import tifffile

from chromamol.errors import ReadError
from chromamol.io import discover, find_labels
from chromamol.io.inputs import safe_stem


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def read(found):
    return [entry.path.name for entry in found if entry.is_readable]


def test_a_folder_gives_its_images_by_name_and_says_why_others_are_skipped(tmp_path):
    touch(tmp_path, "b.tif", "a.OME.TIF", "c.lsm", ".hidden.tif", "notes.txt", "deeper/d.tif", "README")
    found = discover([tmp_path])
    assert read(found) == ["a.OME.TIF", "b.tif", "c.lsm"]
    reasons = {entry.path.name: entry.skipped for entry in found if not entry.is_readable}
    assert reasons == {
        ".hidden.tif": "hidden file",
        "README": "neither an image nor a localisation table that is read (no ending)",
        "deeper": "a folder inside a folder is not searched",
        "notes.txt": "neither an image nor a localisation table that is read (.txt)",
    }


@pytest.mark.parametrize(
    "name",
    ["a_labels.tif", "a_label.tif", "a_mask.tif", "a_masks.tif", "stardist_mask2d.tif", "a_cp_masks.tif",
     "a.stardist.tif", "labels.tif", "a-Labels.ome.tif", "a_mask3d.tiff", "a_cp_outlines.tif"],
)  # fmt: skip
def test_label_images_in_a_folder_are_skipped_unless_named(tmp_path, name):
    touch(tmp_path, "a.tif", name)
    assert read(discover([tmp_path])) == ["a.tif"]
    assert "looks like a label image" in next(e for e in discover([tmp_path]) if e.path.name == name).skipped
    assert sorted(read(discover([tmp_path, tmp_path / name]))) == sorted(["a.tif", name])
    assert read(discover([tmp_path / name])) == [name]


@pytest.mark.parametrize("name", ["unmasked.tif", "labelled cells.tif", "mask_off.tif", "a_mask2d_raw.tif"])
def test_names_that_only_resemble_a_label_image_are_read(tmp_path, name):
    assert read(discover([touch(tmp_path, name)])) == [name]


def test_what_is_missing_or_empty_is_an_entry_and_stops_nothing(tmp_path):
    touch(tmp_path, "a.tif", "empty/notes.txt")
    found = discover([tmp_path / "missing.tif", tmp_path / "empty", tmp_path / "a.tif"])
    assert read(found) == ["a.tif"]
    errors = [str(entry.error) for entry in found if entry.error is not None]
    assert all(isinstance(entry.error, ReadError) for entry in found if entry.error is not None)
    assert len(errors) == 2
    assert "no such file or folder" in errors[0]
    assert "no image in this folder (1 other entries)" in errors[1]


def test_a_file_met_twice_is_read_once_in_the_order_given(tmp_path):
    touch(tmp_path, "b.tif", "a.tif")
    assert read(discover([tmp_path / "b.tif", tmp_path, tmp_path / "x" / ".." / "a.tif"])) == [
        "b.tif",
        "a.tif",
    ]


def test_stems_are_unique_and_do_not_depend_on_the_order(tmp_path):
    names = [
        "ctrl/img.tif",
        "treated/img.tif",
        "treated/IMG.ome.tif",
        "x/ctrl/img.tif",
        "solo.tif",
        "ctrl-img.tif",
    ]
    touch(tmp_path, *names)
    paths = [tmp_path / name for name in names]
    reference = {entry.path: entry.stem for entry in discover(paths)}
    folded = [stem.casefold() for stem in reference.values()]
    assert len(set(folded)) == len(names)
    for order in itertools.islice(itertools.permutations(paths), 0, None, 13):
        assert {entry.path: entry.stem for entry in discover(order)} == reference
    assert reference[tmp_path / "solo.tif"] == "solo"


def test_one_stem_in_two_folders_gets_the_folder_in_front(tmp_path):
    touch(tmp_path, "ctrl/img01.tif", "treated/img01.tif")
    assert [e.stem for e in discover([tmp_path / "ctrl", tmp_path / "treated"])] == [
        "ctrl-img01",
        "treated-img01",
    ]


@pytest.mark.parametrize(
    "name",
    ["a b.tif", "it's.tif", 'say "x".tif', "<b>x</b>.tif", "=1+1.tif", "-rf.tif", "..tif", "CON.tif",
     "核 1.tif", "a" * 240 + ".tif", "語" * 80 + ".tif", "a\nb.tif", "trailing .tif", ".tif"],
)  # fmt: skip
def test_legal_names_become_safe_stems(name):
    stem = safe_stem(name)
    assert stem
    assert len(stem.encode()) <= 121
    assert not set(stem) & set("/\\:*?\"'<>|=\n ")
    assert stem[0] not in ".-="
    assert stem[-1] != "."
    assert stem.upper() != "CON"


def test_odd_names_are_read_from_the_disk(tmp_path):
    names = ["=cmd.tif", "it's <b>.tif", 'quote".tif', "a b.tif"]
    touch(tmp_path, *names)
    found = discover([tmp_path])
    assert sorted(read(found)) == sorted(names)
    assert {entry.stem for entry in found} == {"_cmd", "it_s__b_", "quote_", "a_b"}


def test_labels_are_found_by_the_stem_of_the_image(tmp_path):
    image = tmp_path / "images" / "cell 1.ome.tif"
    touch(tmp_path, "masks/cell 1_cp_masks.tif", "masks/cell 2.tif", "out/cell_1/labels.tif")
    assert find_labels(tmp_path / "masks", image=image).name == "cell 1_cp_masks.tif"
    assert find_labels(tmp_path / "out", image=image).parent.name == "cell_1"
    assert find_labels(tmp_path / "any.tif", image=image) == tmp_path / "any.tif"
    touch(tmp_path, "masks/cell 1_labels.tif")
    with pytest.raises(ReadError, match=r"2 label files for cell 1\.ome\.tif"):
        find_labels(tmp_path / "masks", image=image)
    with pytest.raises(ReadError, match=r"0 label files.*cell 1_labels\.tif"):
        find_labels(tmp_path, image=image)


def test_a_name_that_two_inputs_share_finds_only_what_is_called_by_the_stem(tmp_path):
    touch(tmp_path, "masks/img.tif", "masks/img/labels.tif", "a/img.tif", "b/img.tif")
    images = discover([tmp_path / "a", tmp_path / "b"])
    for entry in images:
        with pytest.raises(ReadError, match=rf"0 label files.*{entry.stem}_labels\.tif"):
            find_labels(tmp_path / "masks", image=entry.path, stem=entry.stem)
    touch(tmp_path, "masks/a-img_labels.tif", "masks/b-img/labels.tif")
    found = [find_labels(tmp_path / "masks", image=each.path, stem=each.stem) for each in images]
    assert [path.name for path in found] == ["a-img_labels.tif", "labels.tif"]
    assert found[1].parent.name == "b-img"


def test_outlines_of_a_run_belong_to_the_file_with_their_checksum(tmp_path):
    names = [
        "a/img.tif",
        "b/img.tif",
        "zarr.ome.zarr/0",
        "run/images/img/labels.tif",
        "run/images/z/labels.tif",
    ]
    touch(tmp_path, *names)
    (tmp_path / "a" / "img.tif").write_bytes(b"a")
    checksum = hashlib.sha256(b"a").hexdigest()
    rows = [
        f"img,elsewhere/img.tif,{checksum},done",
        f"gone,gone.tif,{checksum},failed",
        f"z,{tmp_path}/zarr.ome.zarr,,done",
    ]
    (tmp_path / "run" / "images.csv").write_text("\n".join(["image,path,sha256,status", *rows]))
    folder = tmp_path / "run" / "images"
    assert (
        find_labels(folder, image=tmp_path / "a" / "img.tif", stem="a-img") == folder / "img" / "labels.tif"
    )
    assert find_labels(folder, image=tmp_path / "zarr.ome.zarr") == folder / "z" / "labels.tif"
    with pytest.raises(
        ReadError, match=r"0 label files for img\.tif \(images\.csv beside it has no file of the same"
    ):
        find_labels(folder, image=tmp_path / "b" / "img.tif")
    (folder / "img_labels.tif").write_bytes(b"x")
    assert find_labels(folder, image=tmp_path / "b" / "img.tif").name == "img_labels.tif", "the user's word"
    (tmp_path / "run" / "images.csv").write_text("some,other\ntable,x\n")
    assert find_labels(folder, image=tmp_path / "z.tif") == folder / "z" / "labels.tif"


def test_an_image_is_not_its_own_label_file(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 3), np.uint8))
    with pytest.raises(ReadError, match="0 label files"):
        find_labels(tmp_path, image=path)
