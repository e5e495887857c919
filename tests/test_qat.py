"""Quantisation-aware training: forward is the Program, backward is the float net."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lower import family, images_for, mobile, nets

from limbeck.integer.lower import lower
from limbeck.integer.program import run
from limbeck.integer.qat import prepare_qat, whole


def scores(net, program, images):
    """Return (forward in the program's units, the program's scores)."""
    with torch.no_grad():
        return net(images).double().numpy() / program.scale, run(program, images.numpy())


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(nets, st.sampled_from([("minmax", 8), ("mse", 16), ("percentile", 24)]))
def test_forward_is_the_programs_scores(net, choice):
    ranges, state_bits = choice
    images = images_for(net)
    trained = prepare_qat(net, images, state_bits=state_bits, ranges=ranges)
    forward, integers = scores(trained, lower(trained, images), images)
    assert np.abs(forward - integers).max() < 0.01  # float32's division by the scale


def test_forward_at_16_bits_is_within_a_few_units_of_the_programs_scores():
    net = family("dsodenet20")
    images = images_for(net)
    trained = prepare_qat(net, images, weight_bits=16, activation_bits=16)
    forward, integers = scores(trained, lower(trained, images), images)
    assert np.abs(forward - integers).max() < 32  # of 2**15: float32 sums 16-bit products


def test_lowering_the_prepared_net_is_lowering_the_net():
    net = mobile()
    images = images_for(net)
    program = lower(prepare_qat(net, images, wide=("9",)), images[:0])
    expected = lower(net, images, wide=("9",))
    np.testing.assert_array_equal(run(program, images.numpy()), run(expected, images.numpy()))


def test_preparing_leaves_the_float_net_as_it_was():
    net = family("odenet20")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained = prepare_qat(net, images_for(net))
    for parameter in trained.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_frozen_net_can_be_prepared_to_be_trained():
    net = mobile().requires_grad_(False)
    trained = prepare_qat(net, images_for(net))
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_rounding_passes_gradients_unchanged():
    x = torch.tensor([-0.5, 0.2, 0.5, 1.7], requires_grad=True)
    y = whole(x)
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert y.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_gradients_point_where_the_float_nets_do(solver):
    net = family("dsodenet20", size=8, solver=solver)
    images = images_for(net, 12)
    labels = torch.arange(12) % 3
    trained = prepare_qat(net, images, weight_bits=16, activation_bits=16, state_bits=24)
    for model in (net, trained):
        F.cross_entropy(model(images), labels).backward()
    float_gradient, gradient = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (net, trained))
    assert F.cosine_similarity(float_gradient, gradient, dim=0) > 0.99


@pytest.mark.slow
def test_training_lowers_the_distance_to_the_float_net():
    net = family("odenet20", size=8)
    net.net.head.fc.weight.data.mul_(100)  # logits of about 1
    images = images_for(net, 16)
    with torch.no_grad():
        target = net(images).softmax(1)
    trained = prepare_qat(net, images, weight_bits=4)  # with 8 there is next to nothing to win

    def loss():
        return F.kl_div(trained(images).log_softmax(1), target, reduction="batchmean")

    before = float(loss().detach())
    optimiser = torch.optim.Adam(trained.parameters(), lr=2e-4)
    for _ in range(20):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert float(loss().detach()) < before / 2
    forward, integers = scores(trained, lower(trained, images), images)
    assert np.abs(forward - integers).max() < 0.01
