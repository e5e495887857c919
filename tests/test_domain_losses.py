"""Domain losses: numpy, scipy and scikit-learn agree, and each has the extremes that its paper gives it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from torch import Tensor, nn

from limbeck.learn import domain

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64 sums of a few hundred terms of size 1
seeds = st.integers(0, 1000)


def drawn(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


# ---- aligning -------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(2, 9), m=st.integers(2, 9), width=st.integers(1, 5))
def test_coral_is_the_distance_of_numpys_covariances(seed, n, m, width):
    source, target = drawn(n, width, seed=seed), drawn(m, width, seed=seed + 1)
    apart = np.atleast_2d(np.cov(source.numpy(), rowvar=False)) - np.atleast_2d(np.cov(target.numpy(), rowvar=False))
    assert float(domain.coral(source, target)) == pytest.approx((apart**2).sum() / (4 * width**2), rel=1e-9)


def test_coral_does_not_see_where_a_domain_lies():
    source, target = drawn(8, 3), drawn(6, 3, seed=1)
    torch.testing.assert_close(domain.coral(source + 100, target - 7), domain.coral(source, target), rtol=1e-9, atol=0)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(2, 8), m=st.integers(2, 8))
def test_mmd_is_that_of_scikit_learns_kernels(seed, n, m):
    source, target = drawn(n, 3, seed=seed).numpy(), drawn(m, 3, seed=seed + 1).numpy() + 1
    rows = np.concatenate([source, target])
    mean = (euclidean_distances(rows) ** 2).sum() / (len(rows) * (len(rows) - 1))
    gammas = [1 / (mean * 2.0**k) for k in (-2, -1, 0, 1, 2)]

    def similar(one, other):
        return np.mean([rbf_kernel(one, other, gamma) for gamma in gammas])

    expected = similar(source, source) + similar(target, target) - 2 * similar(source, target)
    found = float(domain.mmd(torch.from_numpy(source), torch.from_numpy(target)))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found >= 0


def test_mmd_of_equal_domains_is_zero_and_grows_with_the_shift():
    source = drawn(32, 4)
    assert float(domain.mmd(source, source)) == pytest.approx(0, abs=1e-12)
    found = [float(domain.mmd(source, drawn(32, 4, seed=1) + shift)) for shift in (0.0, 1.0, 2.0, 4.0)]
    assert found == sorted(found)


# ---- the critic -------------------------------------------------------------------------------------------------


def critic_at(calls: int, **options) -> domain.DomainCritic:
    made = domain.DomainCritic(4, ramp=100, **options).double()
    made.calls.fill_(calls)
    return made


def test_the_critic_gets_the_plain_gradient_and_the_features_the_reversed_one_times_its_strength():
    critic, source, target = critic_at(30), drawn(5, 4).requires_grad_(), drawn(7, 4, seed=1)
    answers = drawn(5, 3), drawn(7, 3, seed=1)
    strength = 2 / (1 + math.exp(-3)) - 1
    loss = domain.domain_loss(critic, (source, answers[0]), (target, answers[1]))
    plain = [critic.layers(rows)[:, 0] for rows in (source, target)]
    truth = [torch.ones(5, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)]
    entropies = [nn.functional.binary_cross_entropy_with_logits(*pair) for pair in zip(plain, truth, strict=True)]
    expected = sum(entropies) / 2
    torch.testing.assert_close(loss, expected, **EXACT)
    weight = critic.layers[0].weight
    reversed_, own = torch.autograd.grad(loss, [source, weight])
    straight, same = torch.autograd.grad(expected, [source, weight])
    torch.testing.assert_close(reversed_, -strength * straight, **EXACT)
    torch.testing.assert_close(own, same, **EXACT)


def test_the_critics_strength_grows_from_nothing_and_is_saved():
    critic = critic_at(0)
    assert critic.strength() == 0
    for _ in range(3):
        critic(drawn(2, 4), drawn(2, 3))
    critic.eval()(drawn(2, 4), drawn(2, 3))
    again = critic_at(0)
    again.load_state_dict(critic.state_dict())
    assert again.strength() == critic.strength() == 2 / (1 + math.exp(-10 * 3 / 100)) - 1
    assert critic_at(100).strength() == critic_at(1000).strength() == pytest.approx(1, abs=1e-4)


def test_cdan_judges_every_product_of_a_feature_and_an_answer():
    critic, features, logits = critic_at(50, classes=3), drawn(5, 4).requires_grad_(), drawn(5, 3).requires_grad_()
    expected = np.einsum("ni,nj->nij", features.detach().numpy(), logits.detach().softmax(1).numpy()).reshape(5, 12)
    torch.testing.assert_close(critic.judged(features, logits).detach(), torch.from_numpy(expected), **EXACT)
    critic(features, logits).sum().backward()
    assert features.grad is not None
    assert logits.grad is None


def test_cdans_projection_keeps_inner_products():
    critic = domain.DomainCritic(500, ramp=1, classes=100)
    features, logits = torch.randn(2, 500), torch.randn(2, 100)
    said = logits.softmax(1)
    exact = (features @ features.T) * (said @ said.T)
    found = critic.judged(features, logits)
    error = (found @ found.T - exact).abs() / exact.diag().outer(exact.diag()).sqrt()
    assert found.shape == (2, domain.PROJECTION)
    assert error.max() < 6 * 3 / math.sqrt(domain.PROJECTION)  # 6 standard deviations; products of four normals: 3


# ---- sure answers -----------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(1, 8), classes=st.integers(2, 6))
def test_entropy_and_information_are_those_of_the_distributions(seed, n, classes):
    logits = drawn(n, classes, seed=seed)
    each, mean = torch.distributions.Categorical(logits=logits), logits.softmax(1).mean(0)
    torch.testing.assert_close(domain.entropy(logits), each.entropy().mean(), **EXACT)
    together = torch.distributions.Categorical(probs=mean).entropy()
    torch.testing.assert_close(domain.diversity(logits), together, **EXACT)
    assert -1e-12 <= float(domain.information(logits)) <= math.log(classes)


def test_information_is_greatest_for_sure_and_even_answers():
    sure = 100 * torch.eye(4, dtype=torch.float64)
    assert float(domain.information(sure)) == pytest.approx(math.log(4))
    assert float(domain.information(sure[:1].expand(4, 4))) == pytest.approx(0, abs=1e-12)
    assert float(domain.information(0 * sure)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(1, 8), classes=st.integers(2, 5))
def test_mcc_is_what_its_paper_says_step_by_step(seed, n, classes):
    logits = drawn(n, classes, seed=seed).numpy() / 2.5
    said = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weight = 1 + np.exp((said * np.log(said)).sum(1))
    weight = n * weight / weight.sum()
    confusion = np.zeros((classes, classes))
    for i in range(n):
        for j in range(classes):
            for k in range(classes):
                confusion[j, k] += said[i, j] * weight[i] * said[i, k]
    confusion /= confusion.sum(1, keepdims=True)
    expected = sum(confusion[j, k] for j in range(classes) for k in range(classes) if j != k) / classes
    assert float(domain.mcc(drawn(n, classes, seed=seed))) == pytest.approx(expected, rel=1e-9)


def test_mcc_is_zero_without_confusion_and_greatest_for_even_answers():
    assert float(domain.mcc(1000 * torch.eye(4, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
    assert float(domain.mcc(torch.zeros(6, 4, dtype=torch.float64))) == pytest.approx(3 / 4)


def test_pseudo_labels_teach_sure_answers_alone():
    probabilities = torch.tensor([[0.95, 0.05], [0.6, 0.4], [0.1, 0.9]], dtype=torch.float64)
    logits = probabilities.log().requires_grad_()
    loss = domain.pseudo_cross_entropy(logits, logits, 0.85)
    assert float(loss.detach()) == pytest.approx(-(math.log(0.95) + math.log(0.9)) / 3)
    found = gradient(loss, logits)
    assert not found[1].any()
    assert found[0, 0] < 0
    assert found[2, 1] < 0
