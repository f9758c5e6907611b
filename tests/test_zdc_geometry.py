"""Crystal, position and cellID of the ZDC ECAL say the same."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.zdc import geometry

ALL = np.arange(geometry.CRYSTALS)


def global_centres(depth_mm: float = geometry.CRYSTAL_DEPTH_MM) -> tuple[np.ndarray, ...]:
    x, y = geometry.centre_of_crystal(ALL)
    return geometry.global_position(x, y, np.full(len(ALL), depth_mm))


def test_a_cell_id_of_an_epic_file_is_where_its_hit_is() -> None:
    # From npsim: cellID 112036 stands at these coordinates in mm.
    crystal = geometry.crystal_of_cell_id(np.array([112036], np.uint64))
    assert crystal.tolist() == [20 * 5 + 8]
    position = (np.array([-1029.6392822265625]), np.array([-45.45000076293945]), np.array([35722.42578125]))
    assert geometry.crystal_of_position(*position).tolist() == crystal.tolist()
    x, y = geometry.centre_of_crystal(crystal)
    local_x, local_y, local_z = geometry.local_position(*position)
    assert abs(local_x - x)[0] < 1e-3
    assert abs(local_y - y)[0] < 1e-3
    assert local_z[0] == pytest.approx(geometry.CRYSTAL_DEPTH_MM, abs=0.01)
    assert geometry.cell_id_of_crystal(crystal).tolist() == [112036]


def test_every_crystal_comes_back_from_its_cell_id_and_from_its_position() -> None:
    assert np.array_equal(geometry.crystal_of_cell_id(geometry.cell_id_of_crystal(ALL)), ALL)
    assert np.array_equal(geometry.crystal_of_position(*global_centres()), ALL)
    rounded = [values.astype(np.float32) for values in global_centres()]
    assert np.array_equal(geometry.crystal_of_position(*rounded), ALL)


def test_global_and_local_undo_each_other() -> None:
    rng = np.random.default_rng(0)
    position = tuple(rng.normal(scale=1e4, size=(3, 100)))
    there_and_back = geometry.global_position(*geometry.local_position(*position))
    np.testing.assert_allclose(there_and_back, position, atol=1e-8)


def test_what_lies_beside_the_grid_is_outside() -> None:
    edge = geometry.ROWS / 2 * geometry.PITCH_MM
    x, y = np.array([edge + 0.1, -edge - 0.1, 0, 0]), np.array([0, 0, edge + 0.1, -edge - 0.1])
    beside = geometry.global_position(x, y, np.full(4, geometry.CRYSTAL_DEPTH_MM))
    assert (geometry.crystal_of_position(*beside) == geometry.OUTSIDE).all()
    assert (geometry.crystal_of_position(*global_centres(36_500.0)) == geometry.OUTSIDE).all()
    x, y, z = global_centres()
    assert (geometry.crystal_of_position(x / 10, y / 10, z / 10) == geometry.OUTSIDE).all()  # cm
    wrong = np.array([0, 401 << 10, 4095 << 10], np.uint64)
    assert (geometry.crystal_of_cell_id(wrong) == geometry.OUTSIDE).all()


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32, np.uint64, np.float64])
def test_the_sentinel_is_known_in_every_type(kind: type[np.generic]) -> None:
    values = np.array([5, -100, 100], np.int64).astype(kind)
    assert geometry.is_sentinel(values).tolist() == [False, True, False]
