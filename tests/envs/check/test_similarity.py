"""Whether something is seen more often than by chance."""

import numpy as np

from rlgd.envs.check.similarity import ObsRange, Share, Similarity


def test_a_share_is_compared_with_the_usual_one() -> None:
    rare, common, unknown = Share([False] * 8), Share([True] * 8), Share()
    always = Share([True] * 3)
    assert always.always_unlike(rare)  # (1 / 10)^3
    assert not Share([True]).always_unlike(rare)  # 1 / 10: too few cases
    assert not always.always_unlike(common)
    assert not always.always_unlike(unknown)
    assert not Share().always_unlike(rare)
    always.add(False)
    assert (always.hits, always.total) == (3, 4)
    assert not always.always_unlike(rare)


def test_a_range_is_a_little_wider_than_its_observations() -> None:
    starts = ObsRange(
        [{"a": np.array([0.0, 1.0]), "b": (np.array(5),)}, {"a": np.array([1.0, 1.0]), "b": (np.array(5),)}]
    )
    for first, inside in ((-0.05, True), (0.5, True), (1.1, True), (1.2, False), (-0.2, False)):
        assert starts.contains({"a": np.array([first, 1.0]), "b": (np.array(5),)}) == inside
    assert not starts.contains({"a": np.array([0.5, 1.01]), "b": (np.array(5),)})


def test_similarity_counts_each_comparison() -> None:
    starts, similarity = ObsRange([np.zeros(1), np.ones(1)]), Similarity()
    similarity.add(np.array([0.5]), before=np.array([0.5]), first=np.array([0.0]), starts=starts)
    similarity.add(np.array([3.0]), before=np.array([0.5]), first=np.array([3.0]), starts=starts)
    assert [vars(share) for share in (similarity.unchanged, similarity.like_first, similarity.like_start)] == [
        {"hits": 1, "total": 2}
    ] * 3
