"""Selection without labels: what the signs say of clear cases, and which candidate each criterion takes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from limbeck.learn.select import CRITERIA, Signs, best, collapsed, from_json, kappa, signs, soft_neighbourhood_density


def certain(labels: list[int], classes: int) -> torch.Tensor:
    return 50 * torch.nn.functional.one_hot(torch.tensor(labels), classes).double()


def test_sure_and_even_answers_have_the_highest_infomax():
    found = signs(certain([0, 1, 2, 3] * 3, 4))
    assert found.infomax == pytest.approx(math.log(4))
    assert found.entropy == pytest.approx(0, abs=1e-9)
    assert found.said == pytest.approx(4)


def test_a_net_that_says_one_class_only_says_one():
    found = signs(certain([2] * 8, 4))
    assert (found.said, found.infomax) == (pytest.approx(1), pytest.approx(0, abs=1e-9))


def test_density_is_what_its_paper_says_step_by_step():
    logits = torch.randn(7, 3, dtype=torch.float64)
    said = torch.softmax(logits, 1).numpy()
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    entropies = []
    for i in range(7):
        weights = np.array([math.exp(said[i] @ said[j] / 0.05) for j in range(7) if j != i])
        weights /= weights.sum()
        entropies.append(-(weights * np.log(weights)).sum())
    assert soft_neighbourhood_density(logits) == pytest.approx(np.mean(entropies))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_density_counts_the_neighbours_in_a_cluster(size):
    # e^20 to 1 between the same class and another: all but a part of 1e-7 is within the cluster
    assert soft_neighbourhood_density(certain([0, 1, 2] * size, 3)) == pytest.approx(math.log(size - 1), abs=1e-6)


def test_signs_do_not_depend_on_the_order_of_the_images():
    logits = torch.randn(20, 5, dtype=torch.float64)
    one, other = signs(logits), signs(logits[torch.randperm(20)])
    assert one.to_json() == pytest.approx(other.to_json())


def candidates() -> list[Signs]:
    start = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=4.0, source=0.5)
    return [
        start,
        replace(start, infomax=2.0),
        replace(start, snd=2.0),
        replace(start, entropy=0.5),
        replace(start, source=0.9),
        replace(start, infomax=1.5),
    ]


def test_each_criterion_takes_its_own_candidate():
    assert [best(criterion, candidates()) for criterion in CRITERIA] == [1, 2, 3, 4, 5]


def test_without_a_source_its_accuracy_chooses_the_last():
    bare = [replace(candidate, source=None) for candidate in candidates()]
    assert best("source", bare) == len(bare) - 1
    assert "source" not in bare[0].to_json()
    assert from_json(bare[0].to_json()) == bare[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"said": 9.0, "infomax": 1.2}, ""),
        ({"said": 5.0}, "5.0 classes where"),
        ({"infomax": 0.7}, "InfoMax"),
    ],
)
def test_a_collapse_is_noticed_and_explained(change, reason):
    before = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=9.0)
    found = collapsed(replace(before, **change), before)
    assert (reason in found) if reason else (not found)


def test_kappa_is_that_of_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    one = torch.randint(7, (200,), generator=draw)
    for other in (one, one.flip(0), torch.where(torch.arange(200) % 3 == 0, one.roll(1), one), torch.full((200,), 2)):
        assert kappa(one, other) == pytest.approx(cohen_kappa_score(one.numpy(), other.numpy()))
    assert kappa(torch.full((5,), 3), torch.full((5,), 3)) == 1
