import cv2
import numpy as np
import pytest

from cell_curator.core.quality import Quality, measure_quality, noise_sigma
from cell_curator.samples.scenes import nuclei_on_grooves


@pytest.fixture(scope="module")
def field():
    return nuclei_on_grooves(0).image[0].astype(np.float32)


def with_noise(field, sigma):
    return field + np.random.default_rng(4).normal(0, sigma, field.shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [2.0, 10.0, 40.0])
def test_noise_is_measured_beside_cells(field, sigma):
    clean = cv2.GaussianBlur(field, (0, 0), 2)
    assert noise_sigma(with_noise(clean, sigma)) == pytest.approx(sigma, rel=0.1)


def test_noise_is_worse_and_lowers_contrast(field):
    compared = measure_quality(with_noise(field, 40.0)).compare(measure_quality(field))
    assert compared["noise"] == compared["snr"] == compared["cnr"] == -1


def test_blur_is_less_focus_and_less_noise(field):
    compared = measure_quality(cv2.GaussianBlur(field, (0, 0), 3)).compare(measure_quality(field))
    assert compared["focus"] == compared["gradient"] == -1
    assert compared["noise"] == 1


def test_noise_alone_has_no_focus(rng):
    assert measure_quality(rng.normal(0, 1, (400, 400)).astype(np.float32)).focus < 0.05


def test_saturated_pixels_are_counted(field):
    cut = np.minimum(field, np.percentile(field, 95)).astype(np.float32)
    assert measure_quality(cut).saturated == pytest.approx(5, abs=0.3)


def test_figures_do_not_depend_on_the_grey_scale(field):
    there, here = measure_quality(field), measure_quality(field * 7 + 1000)
    assert here.compare(there) == dict.fromkeys(Quality.__dataclass_fields__, 0)


def test_snr_is_that_of_the_published_formula(field):
    from skimage.filters import threshold_otsu

    unit = (field - field.min()) / np.ptp(field)
    bright = unit > threshold_otsu(unit)
    published = unit[bright].mean() / unit[~bright].std()
    assert measure_quality(field).snr == pytest.approx(published, rel=0.05)  # 256 bins against as many of theirs


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (100, 100)])
def test_a_constant_image_has_no_quality(shape):
    assert measure_quality(np.full(shape, 5, np.float32)) == Quality(0, 0, 0, 0, 0, 0)
