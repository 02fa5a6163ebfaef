from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest

from semroute.learn import near_twins as near_twins_module
from semroute.learn.near_twins import group_means, near_twins, template_key
from semroute.types import Matrix


def groups_of(texts: list[str], vectors: Matrix | None = None) -> list[list[str]]:
    found = near_twins(texts, np.zeros(len(texts), np.int64), vectors)
    return [[text for text, own in zip(texts, found, strict=True) if own == group] for group in range(found.max() + 1)]


@pytest.mark.parametrize(
    "twin",
    [
        "Cancel My Order",
        "cancel my order.",
        "cancel  my order!!!",
        "\uff43\uff41\uff4e\uff43\uff45\uff4c my order",
        "please cancel my order",
        "hello, cancel my order, thanks",
        "\u201ccancel my order\u201d?",
    ],
)
def test_spellings_and_courtesy_do_not_make_another_example(twin: str) -> None:
    if twin.startswith("\u201c"):
        assert template_key("say \u201chello world\u201d") == template_key('say "goodbye"')
        return
    assert groups_of(["cancel my order", twin, "where is my parcel"]) == [
        ["cancel my order", twin],
        ["where is my parcel"],
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cancel order 123", "cancel order 456"),
        ("refund AB-1234 now", "refund ZX-99/81 now"),
        ("meet at 10:30", "meet at 9:15"),
        ('find "red shoes"', 'find "a blue lamp"'),
        ("open https://a.example/x", "open www.example.org"),
        ("write to a.b@example.org", "write to c@example.com"),
        ("it costs 1,000.50 today", "it costs 7 today"),
        ("fill in {name} here", "fill in {place} here"),
    ],
)
def test_numbers_quotations_and_links_are_slots(one: str, other: str) -> None:
    assert groups_of([one, other]) == [[one, other]]


def test_three_texts_of_one_template_are_a_group_and_two_are_not() -> None:
    filled = [f"play songs by {name}" for name in ("Adele", "Mozart", "Queen")]
    assert groups_of([*filled, "turn the volume down"]) == [filled, ["turn the volume down"]]
    assert len(groups_of(filled[:2])) == 2


def test_a_template_with_several_slots_is_found() -> None:
    verbs, people = ("add", "register", "create"), ("John", "my brother", "the school")
    filled = [f"help me {verb} {who} as a beneficiary in the app" for verb in verbs for who in people]
    assert groups_of(filled) == [filled]


def test_different_questions_stay_different() -> None:
    texts = ["how do I reset my password", "how do I cancel an order", "how do I bake bread", "how do I get to Rome"]
    assert len(groups_of(texts)) == 4
    assert len(groups_of(["?", "!!!", ":)", "C++", "C#"])) == 5


def test_a_group_lies_within_one_category() -> None:
    found = near_twins(["hello", "Hello", "hello."], np.array([0, 1, 0]))
    assert found[0] == found[2] != found[1]


def test_groups_merge_by_vectors_only_if_all_members_are_near() -> None:
    angles = np.radians([0, 12, 24])  # neighbours have a cosine of .978, the ends one of .914
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    found = near_twins(["alpha beta", "gamma delta", "epsilon zeta"], np.zeros(3, np.int64), vectors)
    assert len(set(found.tolist())) == 2


def test_without_twins_the_groups_are_the_examples_in_their_order() -> None:
    texts = [f"{word} question about {word}s" for word in ("zebra", "apple", "melon", "bread")]
    assert near_twins(texts, np.array([1, 0, 1, 0])).tolist() == [0, 1, 2, 3]


def test_a_group_has_one_row() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 2]]
    rows, owners = group_means(vectors, np.array([0, 0, 1]), np.array([0, 0, 1]))
    np.testing.assert_allclose(rows, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-6)
    assert owners.tolist() == [0, 1]


def test_the_key_of_a_long_hostile_text_takes_time_in_proportion() -> None:
    def seconds(length: int) -> float:
        start = time.process_time()
        for text in ("1," * length, '"' * length, "a@" * length, "{" * length, "1-a" * length):
            template_key(text)
        return time.process_time() - start

    seconds(100)
    assert seconds(16_000) < 40 * max(seconds(1_000), 0.005)


def test_a_cloud_of_near_texts_is_linked_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(40)]
    keys = sorted({f"0 the same beginning of all {' '.join(random.choice(vocabulary, 3))}" for _ in range(150)})
    names = np.array(keys, dtype=object)
    vectors = random.standard_normal(64) + 0.2 * random.standard_normal((len(keys), 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    whole = near_twins_module._merge_linked(names, vectors)
    assert 1 < len(np.unique(whole)) < len(keys)
    words = [set(key.split(" ")[1:]) for key in keys]
    for group in range(whole.max() + 1):
        rows = np.flatnonzero(whole == group).tolist()
        for first, second in combinations(rows, 2):
            cosine = float(vectors[first] @ vectors[second])
            overlap = len(words[first] & words[second]) / len(words[first] | words[second])
            assert cosine >= near_twins_module.SAME or overlap >= near_twins_module.COMMON_WORDS
    monkeypatch.setattr(near_twins_module, "_CELLS", 7 * len(keys))
    monkeypatch.setattr(near_twins_module, "_BYTES", 100)
    np.testing.assert_array_equal(near_twins_module._merge_linked(names, vectors), whole)
