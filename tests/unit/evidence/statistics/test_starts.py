"""Pieces of the evidence: fixed times, and weights that can never sum to more than one."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrollout.evidence.statistics.eprocess import NOTHING
from modelrollout.evidence.statistics.starts import FINEST, PIECES, SHORTEST, cuts

spans = st.lists(st.floats(1.0, 1e6), max_size=20).map(lambda found: sorted({0.0, *found}))


@given(length=st.floats(0.0, 3e6), begins=spans)
def test_pieces_lie_in_order_inside_the_evidence(length: float, begins: list[float]) -> None:
    begins = [begin for begin in begins if begin <= length]
    found = cuts(0.0, length, begins)
    assert found.times[0] == 0.0
    assert list(found.times) == sorted(set(found.times))
    assert all(time <= length for time in found.times)
    assert len(found.times) <= PIECES + len(begins)
    assert set(begins) <= set(found.times)
    for time, span in zip(found.times, found.spans, strict=True):
        assert begins[span] <= time
        assert span + 1 == len(begins) or time < begins[span + 1]


def test_weights_of_all_grids_together_are_at_most_one() -> None:
    """The grid of any length that the evidence may come to have, and twenty spans: one bet each, all made at once."""
    begins = [10.0 * place for place in range(20)]
    own: dict[float, float] = {}
    grids = 0.0
    for level in range(30):
        length = PIECES * SHORTEST * 2.0**level
        found = cuts(0.0, length, begins)
        weights = dict(zip(found.times, map(math.exp, found.starts), strict=True))
        own |= {time: min(weights[time], own.get(time, math.inf)) for time in begins}
        grids += sum(weight for time, weight in weights.items() if time not in begins)
    assert sum(own.values()) + grids <= 1.0
    assert own[0.0] == 0.5


@pytest.mark.parametrize(("length", "width"), [(600, 30), (960, 30), (961, 60), (86_400, 3840)])
def test_the_grid_doubles(length: float, width: float) -> None:
    found = cuts(100.0, 100.0 + length, [100.0])
    assert found.times[1] - found.times[0] == width


def test_a_time_is_in_the_piece_that_began_last() -> None:
    found = cuts(0.0, 100.0, [0.0, 45.0])
    assert found.times == (0.0, 30.0, 45.0, 60.0, 90.0)
    assert [found.piece(at) for at in (-1.0, 0.0, 44.9, 45.0, 99.0)] == [-1, 0, 1, 2, 4]
    assert found.spans == (0, 0, 1, 1, 1)


@pytest.mark.parametrize(("finest", "longest"), [(math.inf, 240), (90, 60), (30, 30), (1, 30)])
def test_cells_are_cut_into_pieces_that_are_no_beginnings(finest: float, longest: float) -> None:
    found, cells = cuts(0.0, 4000.0, [0.0, 45.0], finest), cuts(0.0, 4000.0, [0.0, 45.0])
    assert max(after - before for before, after in pairwise((*found.times, 4000.0))) <= longest
    weights = dict(zip(found.times, found.starts, strict=True))
    assert {time: weight for time, weight in weights.items() if weight != NOTHING} == dict(
        zip(cells.times, cells.starts, strict=True)
    )


@given(length=st.floats(1.0, 3e6), begins=spans, finest=st.floats(1.0, 4000.0))
def test_pieces_are_halves_of_cells_and_stay_bounded(length: float, begins: list[float], finest: float) -> None:
    begins = [begin for begin in begins if begin <= length]
    found, later = cuts(0.0, length, begins, finest), cuts(0.0, 2 * length, begins, finest)
    assert len(found.times) <= max(FINEST, 2 * PIECES) + 1 + len(begins)
    nested = {time for time in later.times if time < length} <= set(found.times)
    assert nested, "pieces are put together as the evidence grows, never cut anew"
