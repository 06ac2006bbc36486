"""The cache under answers and watch events in any order."""

from __future__ import annotations

from typing import Any

from modelrollout.controller.cache import Cache, Key

KEY, OTHER = Key("demo", "digits"), Key("demo", "letters")


def manifest(
    version: int, uid: str = "a", name: str = "digits", kind: str = "HTTPRoute", **more: Any
) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}, **more}


def version_of(cache: Cache) -> str | None:
    found = cache.get(KEY, "HTTPRoute", "digits")
    return None if found is None else found["metadata"]["resourceVersion"]


def test_what_was_put_is_got() -> None:
    cache = Cache()
    assert cache.put(KEY, manifest(5, spec={"a": 1}))
    assert cache.get(KEY, "HTTPRoute", "digits") == manifest(5, spec={"a": 1})


def test_a_late_event_does_not_hide_a_write() -> None:
    cache = Cache()
    cache.put(KEY, manifest(10))
    assert not cache.put(KEY, manifest(9))
    assert version_of(cache) == "10"


def test_versions_compare_as_numbers() -> None:
    cache = Cache()
    cache.put(KEY, manifest(9))
    assert cache.put(KEY, manifest(10))


def test_the_same_version_again_is_harmless() -> None:
    cache = Cache()
    cache.put(KEY, manifest(9))
    assert cache.put(KEY, manifest(9))


def test_a_late_answer_does_not_bring_back_the_dead() -> None:
    cache = Cache()
    cache.put(KEY, manifest(9))
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    assert not cache.put(KEY, manifest(10))
    assert version_of(cache) is None


def test_a_new_object_of_the_name_takes_the_place_of_the_dead() -> None:
    cache = Cache()
    cache.put(KEY, manifest(9))
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    assert cache.put(KEY, manifest(11, uid="b"))


def test_a_late_event_of_the_dead_does_not_hide_its_successor() -> None:
    cache = Cache()
    cache.put(KEY, manifest(11, uid="b"))
    assert not cache.put(KEY, manifest(9, uid="a"))
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    assert version_of(cache) == "11"


def test_objects_are_copies() -> None:
    cache = Cache()
    cache.put(KEY, manifest(1, spec={"a": 1}))
    found = cache.get(KEY, "HTTPRoute", "digits")
    assert found is not None
    found["spec"]["a"] = 2
    again = cache.get(KEY, "HTTPRoute", "digits")
    assert again is not None
    assert again["spec"]["a"] == 1


def test_every_gives_one_kind_of_one_owner() -> None:
    cache = Cache()
    cache.put(KEY, manifest(1, "p1", "one", "Pod"))
    cache.put(KEY, manifest(2, "p2", "two", "Pod"))
    cache.put(KEY, manifest(3))
    cache.put(OTHER, manifest(4, "p3", "three", "Pod"))
    assert [pod["metadata"]["name"] for pod in cache.every(KEY, "Pod")] == ["one", "two"]


def test_an_owner_without_objects_is_not_known() -> None:
    cache = Cache()
    cache.put(KEY, manifest(1))
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    assert cache.known() == []


def test_asking_makes_nothing_known() -> None:
    cache = Cache()
    cache.get(KEY, "Pod", "x")
    list(cache.every(KEY, "Pod"))
    cache.remove(KEY, "Pod", "x", "u")
    assert cache.known() == []


def test_a_refused_object_makes_nothing_known() -> None:
    cache = Cache()
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    cache.put(KEY, manifest(1))
    assert cache.known() == []


def test_what_is_trimmed_is_not_kept() -> None:
    cache = Cache(lambda kind, whole: {"kind": kind, "metadata": whole["metadata"]})
    cache.put(KEY, manifest(1, spec={"large": 1}))
    assert cache.get(KEY, "HTTPRoute", "digits") == manifest(1)


def test_an_object_that_got_its_labels_back_is_seen_again() -> None:
    """A watch by label says DELETED of an object that lost its labels: it is still there, with the same uid."""
    cache = Cache()
    cache.put(KEY, manifest(9))
    cache.remove(KEY, "HTTPRoute", "digits", "a", version="12")
    assert not cache.put(KEY, manifest(11)), "the answer to a write before that"
    assert cache.put(KEY, manifest(13))


def test_what_a_whole_list_lacks_is_gone() -> None:
    cache = Cache()
    cache.put(KEY, manifest(5))
    cache.put(KEY, manifest(6, "p", "pod", "Pod"))
    cache.put(OTHER, manifest(7, "b", "letters"))
    assert cache.keep_only("HTTPRoute", None, {"b"}, "20") == {KEY}
    assert cache.get(KEY, "HTTPRoute", "digits") is None
    assert cache.get(KEY, "Pod", "pod") is not None
    assert cache.get(OTHER, "HTTPRoute", "letters") is not None


def test_a_list_says_nothing_of_what_is_newer() -> None:
    cache = Cache()
    cache.put(KEY, manifest(21))
    assert cache.keep_only("HTTPRoute", None, set(), "20") == set()
    assert version_of(cache) == "21"


def test_a_list_says_nothing_of_other_namespaces() -> None:
    cache = Cache()
    cache.put(KEY, manifest(5))
    assert cache.keep_only("HTTPRoute", "another", set(), "20") == set()
    assert cache.keep_only("HTTPRoute", KEY.namespace, set(), "20") == {KEY}


def test_a_list_without_a_version_says_nothing() -> None:
    cache = Cache()
    cache.put(KEY, manifest(5))
    assert cache.keep_only("HTTPRoute", None, set(), "") == set()


def test_each_version_is_read_once() -> None:
    cache, seen = Cache(), []

    def read(found: dict[str, Any]) -> str:
        seen.append(found["metadata"]["resourceVersion"])
        return str(found["spec"])

    cache.put(KEY, manifest(1, spec="a"))
    assert [*cache.read(KEY, "HTTPRoute", read), *cache.read(KEY, "HTTPRoute", read)] == ["a", "a"]
    cache.put(KEY, manifest(2, spec="b"))
    assert list(cache.read(KEY, "HTTPRoute", read)) == ["b"]
    assert seen == ["1", "2"]


class Notes:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def kept(self, key: Key, manifest: dict[str, Any]) -> None:
        self.said.append(("kept", manifest["metadata"]["resourceVersion"]))

    def lost(self, key: Key, kind: str, name: str) -> None:
        self.said.append(("lost", name))


def test_followers_are_told_of_what_changes_and_of_nothing_else() -> None:
    cache, notes = Cache(), Notes()
    cache.put(KEY, manifest(5))
    cache.follow(notes)
    cache.put(KEY, manifest(4))
    cache.put(KEY, manifest(6))
    cache.remove(KEY, "HTTPRoute", "digits", "another")
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    cache.remove(KEY, "HTTPRoute", "digits", "a")
    assert notes.said == [("kept", "5"), ("kept", "6"), ("lost", "digits")]
