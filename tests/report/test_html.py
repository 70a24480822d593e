"""The report: valid, self-contained, safe against hostile names, complete in what it says."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from chromamol.errors import ReadError
from chromamol.inverse.joint import RIM_PX
from chromamol.nucleus.flags import FLAGS
from chromamol.report import write_report, write_tables
from chromamol.report.html import MAX_ROWS
from chromamol.report.inline import data_uri

HOSTILE = """=x' "q" <img src=x onerror=alert(1)> & a b.tif"""
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page, and refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open or "style" in self.open:
            return
        self.words.append(data)
        if any(tag in self.open for tag in ("td", "th")):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def nucleus(image: str, number: int, **values: Any) -> dict[str, Any]:
    return {"image": image, "nucleus": number, "rate_ratio": 0.84, "rate_ratio_se": 0.02, "method": "regression",
            "gamma_me_per_um2": 121.0, "gamma_me_se": 9.0, "flags": "unresolved_domains"} | values  # fmt: skip


def done(image: str, **values: Any) -> dict[str, Any]:
    return {"image": image, "path": f"/data/{image}.tif", "status": "done", "nuclei": 1, "pixel_size_um": 0.0515,
            "pixel_size_note": "ImageJ tag", "channel_note": "channel 2 named by index"} | values  # fmt: skip


def report(folder: Path, nuclei: list[dict[str, Any]], images: list[dict[str, Any]]) -> Page:
    write_tables(folder, pd.DataFrame(nuclei), pd.DataFrame(images))
    return Page(write_report(folder).read_text(encoding="utf-8"))


def put_picture(folder: Path, image: str, *, side: int = 8, noisy: bool = False) -> Path:
    path = folder / "images" / image / "overview.png"
    path.parent.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256 if noisy else 1, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_whole_report_says_everything_in_order(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('method = "auto"  # <why>\n')
    record = {"version": "0.1.0", "command_line": ["chromamol", "infer", "a b.tif"], "device": "cpu",
              "packages": {"torch": "2.13.0"}, "seed": 7}  # fmt: skip
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    put_picture(tmp_path, "img01")
    page = report(tmp_path, [nucleus("img01", 1), nucleus("img01", 2, rate_ratio=1.5)], [done("img01")])
    for words in ("1.17 ± 0.02", "median of 2 nuclei ± standard error of one", "chromamol infer 'a b.tif'",
                  "torch 2.13.0", "0.0515 µm (ImageJ tag)", "channel 2 named by index", 'method = "auto" # <why>',
                  "0.84 ± 0.02", "121 ± 9", "10.1038/s41467-024-48698-z", "seed"):  # fmt: skip
        assert words in page.text
    order = [i for i in page.ids if not i.startswith("image-")]
    assert order == ["run", "trust", "images", "nuclei", "flags", "settings", "cite"]
    assert page.tags["img"] == 1


def headline_of(page: Page) -> str:
    return page.text.split("What was run")[0]


def test_no_ratio_stands_in_large_type_without_its_error(tmp_path: Path) -> None:
    one = report(tmp_path, [nucleus("a", 1, rate_ratio=0.453, rate_ratio_se=0.0133)], [done("a")])
    assert (
        "0.453 ± 0.013 rate ratio Γme / Γac one nucleus, ± standard error 1 nucleus 1 image done" in one.text
    )
    assert "range" not in one.text
    several = [(0.8, 0.1, ""), (0.9, 0.2, "not_converged"), (1.3, 0.1, "unresolved_domains;unsteady")]
    rows = [nucleus("a", i, rate_ratio=r, rate_ratio_se=e, flags=f) for i, (r, e, f) in enumerate(several)]
    said = headline_of(report(tmp_path, rows, [done("a")]))
    assert "0.90 ± 0.10 rate ratio" in said
    assert "between nuclei: SD 0.26, 0.800 to 1.30; 2 of them flagged not converged, unsteady" in said
    unknown = report(tmp_path, [nucleus("a", 1, rate_ratio_se=np.nan)], [done("a")])
    assert "0.840 (error unknown) rate ratio" in headline_of(unknown)


def test_nuclei_of_several_folders_are_not_mixed_in_one_median(tmp_path: Path) -> None:
    images = [done("c1", path="in/control/1.tif"), done("t1", path="in/treated/1.tif"),
              done("c2", path="in/control/2.tif")]  # fmt: skip
    rows = [nucleus(name, 1, rate_ratio=r) for name, r in (("c1", 0.9), ("c2", 0.8), ("t1", 0.5))]
    page = report(tmp_path, rows, images)
    assert page.rows[:3] == [
        ["input folder", "images", "nuclei", "rate ratio Γme / Γac", "of what"],
        ["in/control", "2", "2", "0.85 ± 0.02",
         "median of 2 nuclei ± standard error of one; between nuclei: SD 0.071, 0.800 to 0.900"],
        ["in/treated", "1", "1", "0.50 ± 0.02", "one nucleus, ± standard error"],
    ]  # fmt: skip
    assert "median of 3" not in page.text
    assert "further columns" not in page.text
    assert "input folder" not in report(tmp_path, rows[:2], [images[0], images[2]]).text


def test_the_ratio_stands_before_the_rates_with_their_unit_and_then_the_flags(tmp_path: Path) -> None:
    page = report(tmp_path, [nucleus("a", 1)], [done("a")])
    head = page.rows[0]
    assert head[:6] == ["image", "nucleus", "rate ratio", "methylationµm⁻²", "acetylationµm⁻²", "flags"]
    assert page.rows[1][2:6] == ["0.84 ± 0.02", "121 ± 9", "not estimable", "unresolved domains"]


def test_what_nuclei_have_in_common_is_said(tmp_path: Path) -> None:
    page = report(tmp_path, [nucleus("a", 1)], [done("a")])
    for words in (
        "..._calibration_se: it is common to nuclei that share one gain",
        "a convention that nuclei share too, mostly",
    ):
        assert words in page.text


def test_rates_per_second_appear_only_with_a_diffusivity(tmp_path: Path) -> None:
    without = report(tmp_path, [nucleus("a", 1)], [done("a")])
    assert "Rates are given over the diffusivity D" in without.text
    assert not any("s⁻¹" in cell for cell in without.rows[0])
    with_it = report(tmp_path, [nucleus("a", 1, gamma_me_per_s=2e-4, gamma_ac_per_s=1e-4)], [done("a")])
    assert "Rates in s⁻¹ rest on the diffusivity that was given" in with_it.text
    assert "2.00 × 10⁻⁴" in with_it.rows[1]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    put_picture(tmp_path, "img01")
    page = report(tmp_path, [nucleus("img01", 1)], [done("img01")])
    loading = [v for _, name, v in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert loading
    assert all(v.startswith(("data:image/", "#")) for v in loading)
    assert {v[1:] for v in loading if v.startswith("#")} <= set(page.ids)
    assert page.tags["link"] == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", text)


def test_a_hostile_name_is_text_and_nothing_else(tmp_path: Path) -> None:
    harmless = report(tmp_path, [nucleus("a", 1)], [done("a", notes="x", error="y")])
    image = done(HOSTILE, path=f"/data/{HOSTILE}", notes=HOSTILE, error=HOSTILE)
    page = report(tmp_path, [nucleus(HOSTILE, 1, method=HOSTILE, flags=HOSTILE)], [image])
    assert page.text.count("onerror=alert(1)") >= 6
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for tag in ("img", "script"):
        assert page.tags[tag] == harmless.tags[tag]


def test_every_flag_is_described_and_counted(tmp_path: Path) -> None:
    nuclei = [
        nucleus("a", 1, flags="saturated;touches_border"),
        nucleus("a", 2, flags="saturated;from_the_future"),
    ]
    page = report(tmp_path, nuclei, [done("a")])
    described = {row[0]: row[1:] for row in page.rows if len(row) == 3}
    assert {name: row[0] for name, row in described.items() if name != "flag"} == {
        "saturated": "2", "touches border": "1", "from the future": "1",
    }  # fmt: skip
    assert described["saturated"][1] == FLAGS["saturated"]
    table, fold = page.text.split(f"{len(FLAGS) - 2} other flags that chromamol knows")
    assert FLAGS["not_converged"] in fold
    assert FLAGS["not_converged"] not in table
    assert "0 nuclei" not in page.text
    titles = [v for tag, name, v in page.attributes if (tag, name) == ("abbr", "title")]
    assert FLAGS["touches_border"] in titles


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("unresolved_domains", "Rates are effective ones in 1 of 2 nuclei"),
        ("split_constant_assumed", "One channel was split"),
        ("calibration_assumed", "The intensity scale is assumed"),
        ("section_thickness_assumed", "The section thickness was not given"),
    ],
)
def test_what_limits_the_numbers_is_said_where_it_applies(tmp_path: Path, flag: str, words: str) -> None:
    assert (
        words in report(tmp_path, [nucleus("a", 1, flags=flag), nucleus("a", 2, flags="")], [done("a")]).text
    )
    assert words not in report(tmp_path, [nucleus("a", 1, flags="")], [done("a")]).text


def test_a_section_scatters_around_the_ratio_of_the_nucleus(tmp_path: Path) -> None:
    """It was said to hardly touch the ratio, beside a flag that says otherwise."""
    text = report(tmp_path, [nucleus("a", 1, flags="section_thickness_assumed")], [done("a")]).text
    assert "scatters around that of the nucleus by about .5 L0 / √area" in text
    assert "hardly touched" not in text
    assert "hardly moves it" not in text


def test_scalings_are_not_spoken_of_as_fits(tmp_path: Path) -> None:
    assumed = "unresolved_domains;split_constant_assumed;calibration_assumed;uncalibrated_scaling"
    of_domains = nucleus("a", 1, method="domains", flags=assumed)
    text = report(tmp_path, [of_domains], [done("a")]).text
    assert "Rates are scalings, not calibrated" in text
    assert "the scatter of the domains over the root of their number" in text
    for words in ("What was fitted", "Rates are effective", "how well gains, dark levels", "the kernel that takes",
                  "5 % of either", "both rates move with it"):  # fmt: skip
        assert words not in text
    assert "Rates are scalings, not calibrated" not in report(tmp_path, [nucleus("a", 1)], [done("a")]).text


def test_only_what_has_a_kernel_is_said_to_have_one(tmp_path: Path) -> None:
    joint = nucleus("a", 1, method="joint", mollifier_width_um=np.nan, flags="")
    regression = nucleus("a", 2, mollifier_width_um=1.2, flags="")
    kernel, without = (
        "because the kernel that takes derivatives",
        f"has no kernel, end {RIM_PX} pixels before",
    )
    for rows, said in (
        ([joint], {without}),
        ([regression], {kernel}),
        ([joint, regression], {kernel, without}),
    ):
        page = report(tmp_path, rows, [done("a")])
        assert {words for words in (kernel, without) if words in page.text} == said
        assert any("kernel half-width" in cell for cell in page.rows[0]) == (kernel in said)


def test_the_ratio_is_explained_as_what_it_is(tmp_path: Path) -> None:
    page = report(tmp_path, [nucleus("a", 1)], [done("a")])
    titles = [value for _, name, value in page.attributes if name == "title"]
    assert any(t.startswith("Mean heterochromatin over mean euchromatin") for t in titles)


AT_REST = "The pattern is taken as steady"
OF_FILMS = ("A time-lapse is inverted with its change", "A time-lapse tells no diffusivity",
            "Rates in s⁻¹ rest on the diffusivity that the frames tell")  # fmt: skip
OF_GIVEN, OVER_D = (
    "Rates in s⁻¹ rest on the diffusivity that was given",
    "Rates are given over the diffusivity D",
)
FILM = {"method": "time-lapse regression", "flags": ""}
TELLS = {
    "diffusivity_um2_per_s": 1e-4,
    "diffusivity_se": 1e-5,
    "gamma_me_per_s": 0.012,
    "gamma_ac_per_s": 0.01,
}
IN_SECONDS = {"gamma_me_per_s": 0.012, "gamma_ac_per_s": 0.01}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{}], {AT_REST, OVER_D}),
        ([IN_SECONDS], {AT_REST, OF_GIVEN}),
        ([FILM | TELLS], {OF_FILMS[0], OF_FILMS[2]}),
        ([FILM], {OF_FILMS[0], OF_FILMS[1]}),
        ([FILM | IN_SECONDS], {OF_FILMS[0], OF_FILMS[1], OF_GIVEN}),
        ([FILM | TELLS, {}], {AT_REST, OF_FILMS[0], OF_FILMS[2], OVER_D}),
    ],
)
def test_time_is_spoken_of_as_the_method_has_it(
    tmp_path: Path, rows: list[dict[str, Any]], said: set[str]
) -> None:
    text = report(tmp_path, [nucleus("a", i, **row) for i, row in enumerate(rows, 1)], [done("a")]).text
    assert {words for words in (AT_REST, *OF_FILMS, OF_GIVEN, OVER_D) if words in text} == said
    assert "not for a time-lapse" not in text


def test_no_nucleus_and_only_failed_images(tmp_path: Path) -> None:
    message = "/data/x.tif: truncated at byte 12.\nExpected: a whole TIFF. Do: copy it again."
    images = [{"image": "x", "path": "/data/x.tif", "status": "failed", "error": message},
              {"image": "", "path": "/data/notes.txt", "status": "skipped", "notes": "not an image"}]  # fmt: skip
    page = report(tmp_path, [], images)
    assert re.sub(r"\s+", " ", message) in page.text
    for words in ("No nucleus was found.", "1 image failed", "1 image skipped", "0 images done", "not an image",
                  "provenance.json is not in this folder", "settings.toml is not in this folder"):  # fmt: skip
        assert words in page.text


def test_outlines_alone_come_without_a_word_on_rates(tmp_path: Path) -> None:
    rows = [
        {"image": "a", "nucleus": n, "area_um2": 50.0, "flags": f}
        for n, f in ((1, "touches_border"), (2, ""))
    ]
    (tmp_path / "settings.toml").write_text("jobs = 1\n")
    page = report(tmp_path, rows, [done("a")])
    assert "Only outlines were made" in page.text
    assert "chromamol segment --settings settings.toml repeats" in page.text
    assert "Outlines of nuclei from chromatin images" in page.text
    assert page.rows[:2] == [["image", "nucleus", "flags", "areaµm²"], ["a", "1", "touches border", "50.0"]]
    assert [row[0] for row in page.rows[3:]] == ["flag", "touches border"]
    for words in ("not estimable", "standard error", "Methylation", "not converged"):
        assert words not in page.text.split("How to cite")[0]


def test_not_one_input(tmp_path: Path) -> None:
    assert "No image." in report(tmp_path, [], []).text


def test_a_long_table_says_what_it_leaves_out(tmp_path: Path) -> None:
    page = report(tmp_path, [nucleus("a", n) for n in range(1, MAX_ROWS + 6)], [done("a")])
    assert "5 further nuclei are in nuclei.csv only." in page.text


def test_the_same_folder_gives_the_same_report(tmp_path: Path) -> None:
    report(tmp_path, [nucleus("a", 1)], [done("a")])
    first = (tmp_path / "report.html").read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_a_picture_outside_of_the_folder_is_never_taken(tmp_path: Path) -> None:
    inner = tmp_path / "run"
    inner.mkdir()
    put_picture(tmp_path, "secret")
    page = report(inner, [], [done("../../images/secret")])
    assert page.tags["img"] == 0


def test_small_pictures_stay_as_they_are_and_large_ones_shrink(tmp_path: Path) -> None:
    small = put_picture(tmp_path, "small")
    assert base64.b64decode(data_uri(small, max_bytes=10_000).split(",")[1]) == small.read_bytes()
    large = put_picture(tmp_path, "large", side=1500, noisy=True)
    kind, content = data_uri(large, max_bytes=400_000).split(",")
    shrunk = base64.b64decode(content)
    assert kind == "data:image/jpeg;base64"
    assert len(shrunk) <= 400_000 < large.stat().st_size
    assert Image.open(io.BytesIO(shrunk)).size[0] >= 700


def test_broken_files_name_themselves(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"nuclei\.csv"):
        write_report(tmp_path)
    write_tables(tmp_path, pd.DataFrame(), pd.DataFrame([done("a")]))
    path = put_picture(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ReadError, match=r"overview\.png"):
        write_report(tmp_path)
    path.unlink()
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(ReadError, match=r"provenance\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
