"""Files as the API server would keep them."""

from __future__ import annotations

from modelrollout.cli.documents import parsed


def test_nulls_of_an_object_are_left_out_and_whole_numbers_are_whole() -> None:
    (found,) = parsed("a: null\nb: {c: ~, d: 1.0, e: [null, 2.0, 0.5, {f: null}]}\ng: 1.0e+3\nh: 1.0.0\ni: .inf")
    assert found == {"b": {"d": 1, "e": [None, 2, 0.5, {}]}, "g": 1000, "h": "1.0.0", "i": float("inf")}
    assert isinstance(found["b"]["d"], int)
    assert isinstance(found["g"], int)


def test_aliases_neither_blow_up_nor_go_round() -> None:
    bomb = "a0: &a0 {n: null}\n" + "".join(
        f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 30)
    )
    (found,) = parsed(bomb)
    assert found["a0"] == {}
    (endless,) = parsed("&a {b: *a, c: null}")
    assert list(endless) == ["b"]
