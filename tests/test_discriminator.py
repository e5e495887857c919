"""The discriminator is MEAL V2's, and tells its two modes apart by a sign alone."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.learn.discriminator import Discriminator, discriminator_loss, reverse_gradient


def scores(classes: int = 10) -> tuple[Tensor, Tensor]:
    return torch.randn(6, classes, requires_grad=True), torch.randn(6, classes, requires_grad=True)


def test_it_has_meal_v2s_parameters_for_imagenet():
    # 1000 x 125 + 125, 125 x 15 + 15, 15 x 2 + 2
    assert sum(p.numel() for p in Discriminator(1000, rectified=True).parameters()) == 127_047


@pytest.mark.parametrize("classes", [2, 3, 10, 65])
def test_it_works_for_few_classes(classes):
    student, teacher = scores(classes)
    loss = discriminator_loss(Discriminator(classes, rectified=False), student, teacher, "cooperative")
    loss.backward()
    assert loss.isfinite()
    assert student.grad.abs().sum() > 0


def trained(discriminator: Discriminator, steps: int = 200) -> list[float]:
    """Return the losses of a discriminator that learns to tell all -1 from all 1."""
    student, teacher = torch.zeros(8, 10) - 1, torch.zeros(8, 10) + 1
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = discriminator_loss(discriminator, student, teacher, "cooperative")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_a_rectified_ones_loss_has_half_of_ln_2_as_its_floor():
    # Its logits are never negative, so the outputs whose truth is 0 cost ln 2 at least; those are half of all.
    discriminator = Discriminator(10, rectified=True)
    torch.nn.init.ones_(discriminator.layers[4].bias)  # both outputs begin alive
    losses = trained(discriminator)
    assert min(losses) >= math.log(2) / 2 * (1 - 1e-6)  # float32
    assert losses[-1] < 1.02 * math.log(2) / 2


def test_a_rectified_one_may_be_dead_from_the_start_and_then_teaches_nothing():
    discriminator = Discriminator(10, rectified=True)
    torch.nn.init.constant_(discriminator.layers[4].bias, -100.0)
    student, teacher = scores()
    loss = discriminator_loss(discriminator, student, teacher, "cooperative")
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)  # float32
    assert not torch.autograd.grad(loss, student)[0].any()


def test_one_without_a_rectifier_learns_to_tell_apart():
    assert trained(Discriminator(10, rectified=False))[-1] < 0.01


def test_adversarial_reverses_the_students_gradient_and_no_other():
    discriminator = Discriminator(10, rectified=False)
    student, teacher = scores()
    found = {}
    for mode in ("cooperative", "adversarial"):
        loss = discriminator_loss(discriminator, student, teacher, mode)
        found[mode] = (loss, *torch.autograd.grad(loss, [student, *discriminator.parameters()]))
    (loss, to_student, *own), (other_loss, other_to_student, *other_own) = found.values()
    assert torch.equal(loss, other_loss)
    assert torch.equal(to_student, -other_to_student)
    assert to_student.abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(own, other_own, strict=True))


@pytest.mark.parametrize("mode", ["cooperative", "adversarial"])
def test_the_teacher_gets_no_gradient(mode):
    student, teacher = scores()
    discriminator_loss(Discriminator(10, rectified=False), student, teacher, mode).backward()
    assert teacher.grad is None


def test_one_that_knows_nothing_costs_ln_2():
    discriminator = Discriminator(10, rectified=False)
    torch.nn.init.zeros_(discriminator.layers[-1].weight)
    torch.nn.init.zeros_(discriminator.layers[-1].bias)
    loss = discriminator_loss(discriminator, *scores(), "cooperative")
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)  # float32


def test_reversal_changes_no_value():
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(reverse_gradient(x), x)
    assert torch.equal(torch.autograd.grad(reverse_gradient(x).sum(), x)[0], -torch.ones(3))
