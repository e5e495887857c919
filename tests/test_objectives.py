"""Objectives: what they look at, and what they never look at."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limbeck.images.views import Mix
from limbeck.learn.discriminator import Discriminator
from limbeck.learn.losses import ensemble_target, soft_cross_entropy
from limbeck.learn.objectives import ask, distill, recall, supervised


class Net(nn.Module):
    """A linear classifier of 4x4 images that remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.head(images.flatten(1).float() / 255)


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


def half_mixed(count: int) -> Mix:
    return Mix(torch.arange(count).flip(0), torch.linspace(0.1, 0.9, count))


@pytest.mark.parametrize("mode", ["off", "cooperative", "adversarial"])
def test_distillation_needs_no_label(make_batch, mode):
    student, teachers, critic = Net(), [Net(), Net()], Discriminator(3, rectified=False)
    objective = distill(student, ask(teachers), discriminator=critic, mode=mode)
    labelled = make_batch()
    loss, metrics = objective(labelled)
    bare, fewer = objective(replace(labelled, labels=None))
    permuted, _ = objective(replace(labelled, labels=labelled.labels.flip(0)))
    assert torch.equal(loss, bare)
    for one, other, third in zip(
        gradients(student, loss), gradients(student, bare), gradients(student, permuted), strict=True
    ):
        assert torch.equal(one, other)
        assert torch.equal(one, third)
    assert "accuracy" in metrics
    assert "accuracy" not in fewer


def test_its_loss_is_the_soft_cross_entropy_with_the_averaged_answer(make_batch):
    student, teachers, batch = Net(), [Net(), Net()], make_batch()
    answer = ask(teachers, average="logits", weights=(1, 3), temperature=2.0)
    loss, metrics = distill(student, answer, temperature=2.0)(batch)
    target = ensemble_target(
        [t(batch.images) for t in teachers], average="logits", weights=(1, 3), temperature=2.0
    ).detach()
    assert torch.equal(loss, soft_cross_entropy(student(batch.images), target, 2.0))
    assert torch.equal(metrics["similarity"], loss.detach())


def test_parts_add_up_to_the_loss(make_batch):
    critic = Discriminator(3, rectified=True)
    objective = distill(Net(), ask([Net()]), hard_weight=0.25, discriminator=critic, mode="cooperative")
    loss, metrics = objective(make_batch())
    expected = metrics["similarity"] + metrics["discriminator"] + 0.25 * metrics["hard"]
    torch.testing.assert_close(loss.detach(), expected)
    assert torch.equal(metrics["loss"], loss.detach())
    assert not any(value.requires_grad for value in metrics.values())


def test_teachers_are_never_trained(make_batch):
    teacher, student = Net(), Net()
    loss, _ = distill(student, ask([teacher]), discriminator=Discriminator(3, rectified=False), mode="adversarial")(
        make_batch()
    )
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


def test_live_teachers_see_the_mixed_pixels(make_batch):
    batch, teacher, student = make_batch(mix=half_mixed(6)), Net(), Net()
    said = ask([teacher])(batch)
    distill(student, ask([teacher]))(batch)
    assert all(torch.equal(images, batch.images) for images in [*teacher.seen, *student.seen])
    assert torch.equal(said.target, teacher(batch.images).softmax(1).detach())


def test_stored_answers_are_mixed(make_batch):
    batch = replace(make_batch(mix=half_mixed(6)), targets=torch.rand(6, 3).softmax(1))
    said = recall(batch)
    share = batch.mix.share[:, None]
    torch.testing.assert_close(said.target, share * batch.targets + (1 - share) * batch.targets.flip(0))
    torch.testing.assert_close(said.target.sum(1), torch.ones(6))


def test_stored_answers_of_whole_images_come_as_they_are(make_batch):
    batch = replace(make_batch(), targets=torch.rand(6, 3).softmax(1))
    said = recall(batch)
    assert torch.equal(said.target, batch.targets)
    torch.testing.assert_close(said.scores.softmax(1), batch.targets)


def test_stored_noughts_stay_finite_for_the_discriminator(make_batch):
    batch = replace(make_batch(), targets=torch.eye(3).repeat(2, 1))
    objective = distill(Net(), recall, discriminator=Discriminator(3, rectified=False), mode="adversarial")
    assert objective(batch)[0].isfinite()


def test_supervised_training_mixes_labels_as_images_were_mixed(make_batch):
    student, mixed = Net(), make_batch(mix=half_mixed(6))
    loss, metrics = supervised(student)(mixed)
    one_hot = torch.nn.functional.one_hot(mixed.labels, 3).float()
    share = mixed.mix.share[:, None]
    expected = soft_cross_entropy(student(mixed.images), share * one_hot + (1 - share) * one_hot.flip(0))
    torch.testing.assert_close(loss, expected)
    assert set(metrics) == {"loss"}  # a mixed image has no one right name


def test_a_perfect_students_accuracy_is_one(make_batch):
    batch = make_batch()

    class Oracle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(batch.labels, 3).float()

    _, metrics = supervised(Oracle())(batch)
    assert metrics["accuracy"] == 1
