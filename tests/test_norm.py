"""BatchNorm: the same on two ranks as on one, apart for each evaluation, re-estimated by averaging."""

import pytest
import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from limbeck.errors import InputError
from limbeck.nets import odenet
from limbeck.nets.norm import BatchNorm, StepBatchNorm, batch_norm, reestimate, synchronise

SHARES = (slice(0, 3), slice(3, 8))  # of a batch of 8; ranks need not have equal ones


def nets():
    """An ODE net of ours and a small net with timm's and torch's BatchNorm, seeded, in float64 and training."""
    torch.manual_seed(0)
    ours = timm.create_model("dsodenet20", in_chans=1, width=4)
    foreign = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        timm.layers.BatchNormAct2d(4, momentum=0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )
    return [synchronise(net.double().train()) for net in (ours, foreign)]


def step(share):
    """One training step on this share of the batch: outputs, gradients and buffers of both nets."""
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(8) % 10
    results = []
    for net in nets():
        scores = net(images[share])
        (F.cross_entropy(scores, labels[share], reduction="sum") / 8).backward()
        gradients = [parameter.grad for parameter in net.parameters()]
        results.append((scores.detach(), gradients, dict(net.named_buffers())))
    return results


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = step(SHARES[rank])
    for _, gradients, _ in results:
        for gradient in gradients:
            dist.all_reduce(gradient)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_do_what_one_does_with_the_whole_batch(tmp_path):
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    for rank, share in enumerate(SHARES):
        several = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for (scores, gradients, buffers), (all_scores, all_gradients, all_buffers) in zip(
            several, step(slice(0, 8)), strict=True
        ):
            torch.testing.assert_close(scores, all_scores[share], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(gradients, all_gradients, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(buffers, all_buffers, rtol=1e-9, atol=1e-9)


def test_one_rank_is_torchs_batch_norm_exactly():
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    weight, bias = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.zeros(3), torch.ones(3)), (torch.zeros(3), torch.ones(3))
    for training in (True, False):
        got = batch_norm(x, *ours, weight, bias, training=training, momentum=0.3, eps=1e-4)
        assert torch.equal(got, F.batch_norm(x, *theirs, weight, bias, training, 0.3, 1e-4))
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


def test_each_step_keeps_the_statistics_of_an_ordinary_batch_norm():
    norm = StepBatchNorm(3, 2)
    ordinary = [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    generator = torch.Generator().manual_seed(0)
    for call in (0, 1, 1):
        x = 2 * torch.randn(4, 3, 5, 5, generator=generator) + call
        assert torch.equal(norm(x, call), ordinary[call](x))
    assert torch.equal(norm.running_mean, torch.stack([each.running_mean for each in ordinary]))
    assert torch.equal(norm.running_var, torch.stack([each.running_var for each in ordinary]))


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet18"])
def test_synchronise_keeps_keys_outputs_and_momentum_none(name):
    torch.manual_seed(0)
    before = timm.create_model(name, num_classes=3)
    before.bn1.momentum = None
    state = {key: value.clone() for key, value in before.state_dict().items()}
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted = before.train()(x)
        moved = {key: value.clone() for key, value in before.state_dict().items()}
        before.load_state_dict(state)
        after = synchronise(before)
        assert isinstance(after.bn1, BatchNorm)
        assert torch.equal(after(x), wanted)
    torch.testing.assert_close(dict(after.state_dict()), moved, rtol=0, atol=0)


def test_synchronise_refuses_what_it_cannot_do():
    with pytest.raises(InputError, match="BatchNorm1d can't be synchronised over ranks; train on one rank"):
        synchronise(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_reestimate_averages_batches_by_their_sizes_and_restores_the_rest():
    net = nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Dropout(0.5)).eval()
    batches = [torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 6)]
    reestimate(net, iter(batches))
    for statistic, wanted in (
        (net[0].running_mean, [b.mean((0, 2, 3)) for b in batches]),
        (net[0].running_var, [b.var((0, 2, 3)) for b in batches]),
    ):
        torch.testing.assert_close(statistic, 0.25 * wanted[0] + 0.75 * wanted[1])
    assert net[0].momentum is None
    assert not any(module.training for module in net.modules())


def test_reestimate_needs_images():
    with pytest.raises(InputError, match="give at least one batch"):
        reestimate(nn.BatchNorm2d(1), [])


def test_after_reestimation_evaluation_is_training_up_to_the_unbiased_variance():
    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1, width=4)
    assert odenet.ode_blocks(net)
    images = torch.randn(32, 1, 32, 32)
    with torch.no_grad():
        reestimate(net, [images])
        evaluated, trained = net.eval()(images), net.train()(images)
    # variances differ by 1 + 1 / (n - 1), n at least 32·8·8 values, in 19 norms
    assert (evaluated - trained).norm() / trained.norm() < 19 / (32 * 8 * 8)
