from itertools import pairwise

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.tiling import Tiling, blocks, run_tiles


def echo(tiles):
    """Stands for the network: gives back its first plane three times, so that tiles can be checked pixel by pixel."""
    return np.repeat(tiles[:, :1], 3, axis=1)


@pytest.mark.parametrize("tiling", [Tiling(), Tiling(side=256, fixed=True), Tiling(side=96)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (403, 404), (700, 1201)])
def test_tiles_cover_the_image_exactly_once_merged(shape, tiling):
    image = np.random.default_rng(1).random((2, *shape), dtype=np.float32)
    messages = []
    answer, note = drive(run_tiles(image, echo, tiling), messages.append)
    assert answer.dtype == np.float16
    np.testing.assert_allclose(answer, np.broadcast_to(image[0], (3, *shape)), atol=1e-3)
    assert note == ""
    assert messages


@pytest.mark.parametrize("length", [1, 16, 200, 224, 288, 403, 1000, 4000])
def test_tiles_are_those_of_stock_cellpose(length):
    from cellpose.transforms import get_pad_yx, make_tiles

    before, after, *_ = get_pad_yx(length, length)
    _, rows, _, _, _ = make_tiles(np.zeros((1, before + length + after, 16)), bsize=224)
    starts, side = Tiling().cuts(length)
    assert [start + before for start in starts] == [start for start, _ in rows]
    assert side == rows[0][1] - rows[0][0]


@pytest.mark.parametrize("length", [1, 256, 257, 3000])
def test_fixed_tiles_have_one_size(length):
    starts, side = Tiling(side=256, fixed=True).cuts(length)
    assert side == 256
    assert starts[0] <= 0
    assert starts[-1] + side >= length
    assert all(b - a <= 0.9 * side + 1 for a, b in pairwise(starts))


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_is_short_the_pieces_get_smaller_and_the_user_is_told(fault):
    image = np.random.default_rng(1).random((1, 500, 600), dtype=np.float32)

    def small_machine(tiles):
        if tiles.size > 200 * 200:
            raise fault
        return echo(tiles)

    answer, note = drive(run_tiles(image, small_machine, Tiling()))
    np.testing.assert_allclose(answer[0], image[0], atol=1e-3)
    assert "memory ran short" in note
    assert "smaller pieces" in note


def test_where_nothing_fits_in_memory_a_remedy_is_named_and_other_faults_are_not_hidden():
    def full(tiles):
        raise MemoryError

    def broken(tiles):
        raise RuntimeError("shapes do not match")

    with pytest.raises(UserError, match=r"memory ran out even with the smallest tiles; .*region"):
        drive(run_tiles(np.zeros((1, 300, 300), np.float32), full, Tiling()))
    with pytest.raises(RuntimeError, match="shapes"):
        drive(run_tiles(np.zeros((1, 300, 300), np.float32), broken, Tiling()))


@pytest.mark.parametrize("shape", [(10, 10), (100, 250), (301, 47)])
def test_block_cores_cover_every_pixel_once_and_lie_in_their_windows(shape):
    seen = np.zeros(shape, int)
    for block in blocks(shape, 50, 8):
        seen[block.core] += 1
        for core, window, length in zip(block.core, block.window, shape, strict=True):
            assert window.start == max(core.start - 8, 0) or window.start == 0
            assert window.stop == min(core.stop + 8, length)
    assert (seen == 1).all()
