"""Losses obey the identities that define them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.learn.losses import ensemble_target, hard_cross_entropy, soft_cross_entropy

EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64 sums of a few dozen terms of size 1


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 5), classes=st.integers(2, 12))
def test_soft_cross_entropy_is_torchs_with_probabilities(seed, count, classes):
    logits, target = drawn(count, classes, seed=seed), drawn(count, classes, seed=seed + 1).softmax(1)
    torch.testing.assert_close(soft_cross_entropy(logits, target), F.cross_entropy(logits, target), **EXACT)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_its_gradient_is_that_of_the_divergence(temperature):
    logits, target = drawn(4, 7).requires_grad_(), drawn(4, 7, seed=1).softmax(1)
    divergence = F.kl_div((logits / temperature).log_softmax(1), target, reduction="batchmean") * temperature**2
    ours = gradient(soft_cross_entropy(logits, target, temperature), logits)
    torch.testing.assert_close(ours, gradient(divergence, logits), **EXACT)


def test_a_student_that_says_what_the_teachers_say_gets_no_gradient():
    logits = drawn(4, 7).requires_grad_()
    found = gradient(soft_cross_entropy(logits, logits.detach().softmax(1)), logits)
    torch.testing.assert_close(found, torch.zeros_like(found), **EXACT)


def test_at_high_temperature_the_gradient_is_that_of_matching_logits():
    # Hinton et al. 2015, equation 4: (z - v) / classes for zero-mean logits, independent of T; the error is O(1 / T).
    student, teacher = drawn(4, 7), drawn(4, 7, seed=1)
    student, teacher = (z - z.mean(1, keepdim=True) for z in (student, teacher))
    student.requires_grad_()
    limit = (student - teacher).detach() / 7 / 4
    errors = []
    for temperature in (1e3, 1e4):
        target = ensemble_target([teacher], average="logits", temperature=temperature)
        errors.append(float((gradient(soft_cross_entropy(student, target, temperature), student) - limit).abs().max()))
    assert errors[0] < 1e-2
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_one_teachers_answer_is_its_softmax(average, temperature):
    logits = drawn(4, 7)
    found = ensemble_target([logits], average=average, temperature=temperature)
    torch.testing.assert_close(found, (logits / temperature).softmax(1), **EXACT)


def test_averages_of_probabilities_and_of_logits_differ_as_by_hand():
    # Odds 9:1 and 1:1. Mean probability (0.9 + 0.5) / 2; the mean logit has odds sqrt(9) : 1.
    logits = [torch.tensor([[9.0, 1.0]]).log(), torch.tensor([[1.0, 1.0]]).log()]
    torch.testing.assert_close(ensemble_target(logits, average="probabilities"), torch.tensor([[0.7, 0.3]]))
    torch.testing.assert_close(ensemble_target(logits, average="logits"), torch.tensor([[0.75, 0.25]]))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_weights_count_by_their_shares_alone(average):
    logits = [drawn(4, 7, seed=seed) for seed in range(3)]
    found = ensemble_target(logits, average=average, weights=(1.0, 2.0, 5.0))
    torch.testing.assert_close(found, ensemble_target(logits, average=average, weights=(0.2, 0.4, 1.0)), **EXACT)
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64), **EXACT)
    repeated = [logits[0], *[logits[1]] * 2, *[logits[2]] * 5]
    torch.testing.assert_close(found, ensemble_target(repeated, average=average), **EXACT)


def test_a_teacher_of_weight_nought_is_not_heard():
    logits = [drawn(4, 7, seed=seed) for seed in range(2)]
    found = ensemble_target(logits, average="probabilities", weights=(1.0, 0.0))
    torch.testing.assert_close(found, logits[0].softmax(1), **EXACT)


def test_hard_cross_entropy_is_soft_cross_entropy_with_one_hot_targets():
    logits, labels = drawn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    expected = soft_cross_entropy(logits, F.one_hot(labels, 4).double())
    torch.testing.assert_close(hard_cross_entropy(logits, labels), expected, **EXACT)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_mixed_images_have_mixed_labels(label_smoothing):
    logits, labels = drawn(4, 3), torch.tensor([0, 1, 2, 2])
    partner, share = torch.tensor([1, 0, 3, 2]), torch.tensor([0.3, 0.7, 1.0, 0.5], dtype=torch.float64)
    one_hot = F.one_hot(labels, 3).double()
    mixed = share[:, None] * one_hot + (1 - share[:, None]) * one_hot[partner]
    expected = F.cross_entropy(logits, mixed, label_smoothing=label_smoothing)
    found = hard_cross_entropy(logits, labels, partner=partner, share=share, label_smoothing=label_smoothing)
    torch.testing.assert_close(found, expected, **EXACT)
