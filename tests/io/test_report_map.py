"""Figures that are the same as SVG and PNG, and the part of the report that judges the map."""

import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from test_report import EVIL, _Page, content  # noqa: F401

from cell_curator.core.cluster_reading import densities, separating_measurements
from cell_curator.core.comparison import compare_conditions
from cell_curator.core.honesty import HonestyRow
from cell_curator.core.jobs import drive
from cell_curator.core.size_study import study_sizes
from cell_curator.io import figures
from cell_curator.io.drawing import Drawing
from cell_curator.io.report import write_report
from cell_curator.io.report_map import ReportJudged, judged_part

SVG = "{http://www.w3.org/2000/svg}"


def _pixels(drawing):
    return np.asarray(Image.open(io.BytesIO(drawing.png())))


@pytest.fixture
def judged(content):  # noqa: F811
    frame = content.cells
    clusters = frame["cluster"].to_numpy()
    made = compare_conditions(clusters, frame["condition"], frame["image"], names={0: EVIL})
    return ReportJudged(
        comparison=made,
        honesty=(HonestyRow("silhouette", "latent", "all cells", -0.25), HonestyRow("b", EVIL, "none", float("nan"))),
        warnings=(f"batch effect of {EVIL}",),
        set_apart=separating_measurements(frame, clusters, ["area"]),
        stability={0: 0.91, 1: 0.4},
        names={0: EVIL, 1: "round"},
        notes={0: f"look at {EVIL}"},
        sizes=study_sizes(frame),
        split="4 of 16 cells",
    )


def test_svg_and_png_are_the_same_drawing(tmp_path):
    drawing = Drawing(100, 60)
    drawing.rect(10, 10, 20, 30, "#0072b2")
    drawing.dot(60, 30, 8, "#e69f00")
    drawing.line([(0, 50), (100, 50)], "#009e73", 4)
    drawing.picture(80, 5, 15, 15, np.full((4, 4), 90, np.uint8))
    drawing.text(5, 9, "a < b & 5 µm², −1 × \x00", 8)
    svg, png = drawing.save(tmp_path / "figure")
    root = ElementTree.parse(svg).getroot()
    assert [part.tag.removeprefix(SVG) for part in root] == ["rect", "rect", "circle", "polyline", "image", "text"]
    assert root[-1].text == "a < b & 5 µm², −1 ×  "
    pixels = np.asarray(Image.open(png))
    assert pixels.shape == (120, 200, 3)
    for (y, x), color in {(50, 40): (0, 114, 178), (60, 120): (230, 159, 0), (100, 30): (0, 158, 115),
                          (24, 174): (90, 90, 90), (110, 100): (255, 255, 255)}.items():  # fmt: skip
        assert tuple(pixels[y, x]) == color


def test_signs_that_a_poor_face_lacks_are_replaced(monkeypatch):
    from cell_curator.io import drawing

    monkeypatch.setattr(drawing, "_face", lambda size: None)
    page = Drawing(80, 30)
    page.text(5, 20, "−1 ×", 12)
    page.png()
    again = Drawing(80, 30)
    again.text(5, 20, "-1 x", 12)
    np.testing.assert_array_equal(_pixels(page), _pixels(again))


def test_every_cell_is_a_dot_of_its_colour():
    points = np.array([[0, 0], [1, 1], [0.2, 0.9]], np.float32)
    colors = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], np.float32)
    root = ElementTree.fromstring(figures.map_figure(points, colors, [("a", "#ff0000", 1)], "Map").svg())
    dots = root.findall(f"{SVG}circle")
    assert sorted(dot.get("fill") for dot in dots) == ["#0000ff", "#00ff00", "#ff0000"]
    place = {dot.get("fill"): (float(dot.get("cx")), float(dot.get("cy"))) for dot in dots}
    assert place["#00ff00"][0] > place["#0000ff"][0] > place["#ff0000"][0]
    assert place["#00ff00"][1] < place["#0000ff"][1] < place["#ff0000"][1]  # upwards on the page
    many = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    root = ElementTree.fromstring(figures.map_figure(many, np.ones((5000, 4), np.float32), [], "Map").svg())
    assert not root.findall(f"{SVG}circle")
    assert len(root.findall(f"{SVG}image")) == 1
    assert _pixels(figures.map_figure(np.zeros((0, 2), np.float32), colors[:0], [], "Map")).std() > 0


def test_a_dot_for_each_image_beside_the_mean_of_its_condition(judged):
    root = ElementTree.fromstring(figures.composition_figure(judged.comparison, judged.names).svg())
    assert len(root.findall(f"{SVG}circle")) == 4 * len(judged.comparison.tests)
    words = " ".join(part.text for part in root.findall(f"{SVG}text"))
    assert "p " in words
    assert "(Holm)" in words


@pytest.mark.parametrize("count", [1, 2, 40])
def test_figures_of_few_and_many_conditions_fit_their_page(count):
    rng = np.random.default_rng(0)
    conditions = np.repeat([f"dose {n} of something long" for n in range(count)], 40)
    units = np.arange(len(conditions)) // 20
    made = compare_conditions(rng.integers(0, 6, len(conditions)), conditions, units)
    drawing = figures.composition_figure(made, {})
    root = ElementTree.fromstring(drawing.svg())
    for part in root.findall(f"{SVG}text"):
        assert 0 <= float(part.get("x")) <= drawing.width
        assert 0 <= float(part.get("y")) <= drawing.height


def test_features_samples_and_correlation_are_drawn():
    rng = np.random.default_rng(0)
    latent, clusters = rng.normal(size=(60, 20)), np.repeat([0, 1], 30)
    spread = densities(latent, clusters)
    root = ElementTree.fromstring(figures.densities_figure(spread, {}, range(20)).svg())
    assert len(root.findall(f"{SVG}polyline")) == 16 * 3
    patch = np.ones((8, 8), np.float32) * 0.5
    root = ElementTree.fromstring(figures.samples_figure([("a", 0, [patch] * 7, patch), ("b", 1, [], None)], "x").svg())
    assert len(root.findall(f"{SVG}image")) == 8
    root = ElementTree.fromstring(figures.correlation_figure((0, 1), np.array([[1, -0.5], [-0.5, 1]]), {}).svg())
    assert [part.text for part in root.findall(f"{SVG}text")].count("−0.50") == 2
    assert _pixels(figures.samples_figure([], "nothing")).shape[2] == 3


def test_the_report_shows_tests_controls_and_warnings_and_stays_safe(content, judged, tmp_path):  # noqa: F811
    path = drive(write_report(tmp_path / "report.html", replace(content, judged=judged)))
    text = path.read_text()
    page = _Page(text)
    assert page.open == []
    assert "<script" not in text
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    words = " ".join(page.words)
    assert "Do conditions differ?" in words
    assert f"batch effect of {EVIL}" in words
    assert "exchanging whole images between conditions (control: 2, drug: 2)" in words
    assert "−0.250" in words
    assert "undefined" in words
    assert "4 of 16 cells" in words
    assert "0.91" in words


def test_seven_typical_and_seven_random_cells_of_each_cluster(content):  # noqa: F811
    from cell_curator.io.report_parts import SAMPLES, cell_part

    made = cell_part(content)["samples"]
    assert SAMPLES == 7
    for row in made:
        texts = [patch["text"] for patch in (*row["patches"], *row["random"])]
        assert len(row["patches"]) <= 7
        assert len(set(texts)) == len(texts)


def test_a_refusal_is_shown_with_percentages_and_no_p(judged):
    refused = compare_conditions(np.array([0, 1, 1]), ["a", "a", "b"], [1, 1, 2])
    part = judged_part(replace(judged, comparison=refused))["judged"]
    assert part["refused"].startswith("one image of each condition")
    assert part["how"] == ""
    assert part["tests"][0]["p"] == "–"
    assert part["tests"][0]["cells"][0]["share"] == "50.0 %"
    assert judged_part(None) == {"judged": None}
