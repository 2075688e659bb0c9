from __future__ import annotations

from typing import Literal

import pytest
from pydantic import field_validator
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.outliers import OutlierParameters
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.widgets.controls import NumberEdit
from cell_curator.widgets.form import ParametersForm

MODELS = [
    Recipe, SegmentParameters, OutlierParameters, PatchParameters, VaeParameters, MapParameters, ClusterParameters,
]  # fmt: skip


class Even(Parameters):
    size: int = parameter(4, "Size", "An even number", unit="px", ge=2, le=10)
    way: Literal["a", "b"] = parameter("a", "Way", "How")
    fine: float = parameter(0.4, "Fine", "A fine one", ge=0, le=3, step=0.05, more=True)

    @field_validator("size")
    @classmethod
    def _even(cls, value):
        if value % 2:
            raise ValueError("the size must be even")
        return value


@pytest.fixture
def form(qtbot):
    def make(*arguments, **options):
        form = ParametersForm(*arguments, **options)
        qtbot.addWidget(form)
        return form

    return make


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_of_the_project_makes_a_form_that_holds_its_defaults(form, model):
    assert form(model).value() == model()


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_showing_values_never_changes_them(form, recipe):
    shown = form(Recipe)
    shown.set_value(recipe)
    assert shown.value() == recipe


def test_a_value_finer_than_the_step_survives(form):
    shown = form(Even)
    shown.set_value(Even(fine=0.4123456789))
    assert shown.value().fine == 0.4123456789


def test_showing_values_tells_nobody_and_changing_them_does(form, qtbot):
    shown = form(Even)
    heard = []
    shown.changed.connect(heard.append)
    shown.set_value(Even(size=8, way="b", fine=1.0))
    assert heard == []
    shown.control("size").spin.setValue(6)
    shown.control("way").setCurrentText("a")
    assert heard == [Even(size=6, way="b", fine=1.0), Even(size=6, way="a", fine=1.0)]


def test_values_that_do_not_go_together_are_said_in_the_form(form, qtbot):
    shown = form(Even)
    shown.show()
    heard = []
    shown.changed.connect(heard.append)
    shown.control("size").spin.setValue(5)
    assert heard == []
    assert shown._error.text() == "the size must be even"
    shown.control("size").spin.setValue(6)
    assert shown._error.isHidden()


def test_units_tooltips_and_folding_come_from_the_declaration(form):
    shown = form(Even)
    assert shown.control("size").spin.suffix() == " px"
    assert "An even number" in shown.control("size").spin.toolTip()
    shown.show()
    assert shown.control("way").isVisible()
    assert not shown.control("fine").isVisible()
    shown._more.set_open(True)
    assert shown.control("fine").isVisible()


def test_a_section_is_switched_by_its_title(form, qtbot):
    shown = form(Recipe)
    shown.set_value(PRESETS["Nuclei on grooves (published)"])
    shown.show()
    switch = shown.control("total_variation.enabled").box
    assert shown.control("total_variation.weight").isVisible()
    qtbot.mouseClick(switch, Qt.MouseButton.LeftButton, pos=QPoint(8, switch.height() // 2))
    assert not shown.value().total_variation.enabled
    assert not shown.control("total_variation.weight").isVisible()


def test_the_slider_moves_the_number_by_whole_steps(form):
    shown = form(Even)
    shown.control("fine").slider.setValue(3)
    assert shown.value().fine == pytest.approx(0.15)


def test_a_word_stands_for_zero_and_a_wide_range_has_no_slider(form):
    shown = form(SegmentParameters, choices={"model": ["starter-nuclei", "mine"]}, zero={"diameter": "automatic"})
    assert shown.control("diameter").spin.text() == "automatic"
    assert shown.control("diameter").slider is None
    assert [shown.control("model").itemText(i) for i in range(2)] == ["starter-nuclei", "mine"]


def test_hidden_fields_keep_their_value(form):
    shown = form(Even, hidden=["size"])
    shown.set_value(Even(size=10))
    assert shown.value().size == 10
    with pytest.raises(KeyError):
        shown.control("size")


def test_scrolling_over_a_number_leaves_it_alone(qtbot):
    number = NumberEdit(int, minimum=0, maximum=10)
    qtbot.addWidget(number)
    number.show()
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(number.slider, wheel)
    assert number.value() == 0
