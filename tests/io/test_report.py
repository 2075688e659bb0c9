"""The report: complete in itself, safe whatever files are called, and right in its counts."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import CellTable
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.colors import cluster_color, cluster_rgba
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.measure import measure
from cell_curator.core.recipe import Clahe, Recipe
from cell_curator.io.pictures import data_uri, outlined, patch_picture, scatter
from cell_curator.io.report import ReportContent, ReportImage, ReportMap, write_report
from cell_curator.io.report_parts import MAX_OVERLAYS

EVIL = "a\"><script>alert(1)</script>&amp;'.tif"


class _Page(HTMLParser):
    """Text by tag, all addresses, and whether tags nest."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.tags, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(" ".join(data.split()))


@pytest.fixture
def content(discs):
    """Two conditions of two images with four cells each; cluster 0 has three of four controls."""
    labels = discs((60, 80), [(15, 15, 9), (15, 50, 8), (42, 20, 7), (42, 60, 9)])
    image = (labels > 0).astype(np.float32) * 0.8
    measured = measure(labels, image[None])
    parts = [
        measured.assign(image=i, label=measured.index, condition="control" if i < 3 else "drug") for i in (1, 2, 3, 4)
    ]
    frame = pd.concat(parts).reset_index(drop=True)
    frame.index = pd.RangeIndex(1, 17)
    clusters = np.array([0, 0, 0, 1] * 2 + [1, 1, 1, 0] * 2)
    frame = frame.assign(cluster=clusters, flags="", score=0.1, verdict="proposed")
    frame.loc[5, ["flags", "score"]] = ["too <b>small</b>; cut by the border", 0.97]
    frame.loc[6, "verdict"] = "rejected"
    latent = np.random.default_rng(0).normal(clusters[:, None], 0.1, (16, 3)).astype(np.float32)
    images = tuple(
        ReportImage(i, f"field {i}" if i != 2 else EVIL, "control" if i < 3 else "drug", "segmented", "", 0.5)
        for i in (1, 2, 3, 4)
    )
    clustering = {"method": "gmm", "space": "latent", "k": 2, "names": {"0": "Long ones"}, "notes": []}
    return ReportContent(
        title="Study <i>one</i>",
        made="today",
        cells=CellTable(frame).frame,
        images=images,
        look=lambda _: (image, labels),
        patches=lambda ids: {i: np.full((64, 64), 0.5, np.float32) for i in ids},
        map=ReportMap(
            np.arange(1, 17),
            latent,
            latent[:, :2],
            {**clustering, "scores": {"silhouette": 0.71234, "davies_bouldin": None, "calinski_harabasz": 123.4}},
        ),
        parameters=(("Preparation", Recipe(clahe=Clahe(enabled=False))), ("Clusters", ClusterParameters())),
        versions={"numpy": "2.0.2"},
    )


def written(content, folder):
    path = drive(write_report(folder / "report.html", content))
    text = path.read_text(encoding="utf-8")
    return text, _Page(text)


def test_nothing_is_loaded_from_anywhere(content, tmp_path):
    text, page = written(content, tmp_path)
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "url(" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_names_and_reasons_are_text_never_markup(content, tmp_path):
    bad = (f"/data/{EVIL}", "<img src=x onerror=alert(1)>")
    text, page = written(replace(content, failed=(bad,), notes=("<u>note</u>",)), tmp_path)
    assert "<script>" not in text
    assert "onerror" not in "".join(re.findall(r"<img[^>]*>", text))
    assert EVIL in page.words
    assert "Study <i>one</i>" in page.words
    assert "too <b>small</b>" in page.words
    assert "<u>note</u>" in page.words


def test_counts_and_shares_add_up(content, tmp_path):
    _, page = written(content, tmp_path)
    words = page.words
    for count, name in (("4", "images"), ("2", "conditions"), ("16", "cells"), ("1", "flagged for a look")):
        assert (count, name) in pairwise(words)
    start = words.index("Share of each condition's cells")
    table = words[start : words.index("What each cluster is made of")]
    assert [w for w in table if re.fullmatch(r"[\d.]+ %", w)] == ["75.0 %", "25.0 %", "25.0 %", "75.0 %"]
    assert table.count("6 cells") == 2
    assert "images 75–75 %" in table
    assert "Long ones" in table
    assert "Cluster 2" in table


def test_scores_name_the_space_they_were_taken_in(content, tmp_path):
    _, page = written(content, tmp_path)
    text = " ".join(page.words)
    assert "0.712" in text
    assert "undefined" in text
    assert "3 learned features" in text
    on_map = replace(content, map=replace(content.map, clustering={**content.map.clustering, "space": "map"}))
    assert "two coordinates of the map" in " ".join(written(on_map, tmp_path)[1].words)


def test_suspicious_cells_come_with_picture_and_reasons(content, tmp_path):
    text, page = written(content, tmp_path)
    assert "cut by the border" in page.words
    assert text.count('class="suspect"') == 1


def test_parameters_and_versions_are_told_and_steps_that_are_off_only_once(content, tmp_path):
    _, page = written(content, tmp_path)
    after = page.words[page.words.index("How this was made") :]
    clahe = after.index("Local contrast (CLAHE)")
    assert after[clahe + 1] == "off"
    assert after[clahe + 2] != "Clip limit"
    assert ("High", "98.5 %") in pairwise(after)
    assert ("numpy", "2.0.2") in pairwise(after)


def test_many_images_are_all_counted_but_not_all_shown(content, tmp_path):
    images = tuple(replace(content.images[0], image_id=i, name=f"field {i}") for i in range(1, 101))
    text, page = written(replace(content, images=images), tmp_path)
    assert text.count("with outlines") == MAX_OVERLAYS
    assert "field 1" in page.words
    assert sum(bool(re.fullmatch(r"field \d+", word)) for word in page.words) == 100 + MAX_OVERLAYS


def test_a_failed_image_is_listed_with_its_reason_and_not_drawn(content, tmp_path):
    broken = replace(content.images[0], state="failed", note="is empty")
    text, page = written(replace(content, images=(broken, *content.images[1:])), tmp_path)
    assert text.count("with outlines") == 3
    assert "is empty" in page.words


def test_without_a_map_there_is_still_a_report(content, tmp_path):
    cells = content.cells.assign(cluster=-1)
    _, page = written(replace(content, map=None, cells=cells), tmp_path)
    assert "Map of all cells" not in page.words
    assert "Images" in page.words


def test_a_project_without_cells_has_a_report(content, tmp_path):
    _, page = written(replace(content, map=None, cells=CellTable().frame), tmp_path)
    assert ("0", "cells") in zip(page.words, page.words[1:], strict=False)


def test_a_report_that_cannot_be_written_is_one_line(content, tmp_path):
    with pytest.raises(UserError, match="folder does not exist"):
        drive(write_report(tmp_path / "none" / "report.html", content))


def test_outlines_have_the_colour_of_the_cell_and_surround_it(discs):
    labels = discs((50, 50), [(15, 15, 8), (35, 35, 8)])
    picture = outlined(np.zeros((50, 50), np.float32), labels, {1: cluster_color(0)}, side=50)
    blue = np.rint(255 * np.array(cluster_color(0)))
    drawn = (picture == blue).all(axis=2)
    assert drawn[15, 7]
    assert not drawn[15, 15]
    assert not (drawn & (labels != 1)).any()
    assert (picture[~drawn] == 0).all()


def test_a_large_image_is_reduced_and_a_small_one_not_blown_up():
    zeros = np.zeros((2000, 1000), np.float32)
    assert outlined(zeros, zeros.astype(np.int32), {}).shape == (640, 320, 3)
    assert outlined(zeros[:30, :40], zeros[:30, :40].astype(np.int32), {}).shape == (60, 80, 3)


def test_the_map_shows_every_point_upright_and_others_in_grey():
    points = np.array([[0, 0], [0, 1], [1, 0]], np.float32)
    picture = scatter(points, cluster_rgba(np.array([0, 1, 2])), np.array([True, True, False]), width=200, height=200)
    orange = (picture == np.rint(255 * np.array(cluster_color(1)))).all(axis=2)
    blue = (picture == np.rint(255 * np.array(cluster_color(0)))).all(axis=2)
    assert np.argwhere(orange)[:, 0].max() < np.argwhere(blue)[:, 0].min()  # y = 1 lies above y = 0
    assert (picture == 225).all(axis=2).any()


def test_points_in_one_place_do_not_divide_by_zero():
    picture = scatter(np.zeros((5, 2), np.float32), cluster_rgba(np.zeros(5, int)))
    assert (picture != 255).any()


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_survive_the_way_into_the_page(kind):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 200
    head, data = data_uri(picture, kind).split(",")
    assert head == f"data:image/{'jpeg' if kind == 'jpg' else 'png'};base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(back[..., ::-1].astype(int) - picture).max() < 8


def test_a_patch_keeps_its_grey_levels():
    assert (patch_picture(np.full((64, 64), 0.5, np.float32)) == 128).all()
