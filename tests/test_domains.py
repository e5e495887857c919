"""Domains made from others: what is drawn, and that it depends on nothing else."""

import importlib.util

import numpy as np
import pytest
import torch
from tools import need

from limbeck.errors import InputError
from limbeck.images import domains
from limbeck.images.domains import draw_randomisation, in_channels, on_photos, packaged_photos, randomise
from limbeck.images.sources import open_source

KINDS = ("strokes", "colours", "backgrounds")


def images(count: int, channels: int, seed: int = 0, side: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


# ---- digits on photos


def test_a_digit_on_a_photo_is_the_distance_of_the_two():
    digits = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    photo = np.full((20, 30, 3), (10, 100, 250), dtype=np.uint8)
    found = on_photos(digits, [photo], "train").astype(int)
    expected = abs(digits[:, None].astype(int) - np.array([10, 100, 250])[:, None, None])
    assert (found == expected).all()


def test_patches_come_from_anywhere_in_any_photo():
    ramp = np.arange(40 * 50, dtype=np.int64).reshape(40, 50, 1)
    photos = [np.concatenate([ramp // 50, ramp % 50, np.full_like(ramp, k)], axis=2).astype(np.uint8) for k in (0, 1)]
    found = on_photos(np.zeros((2000, 8, 8), dtype=np.uint8), photos, "val")
    assert set(found[:, 0, 0, 0]) == set(range(33))
    assert set(found[:, 1, 0, 0]) == set(range(43))
    assert found[:, 2, 0, 0].mean() == pytest.approx(0.5, abs=0.05)  # 4.5 standard deviations
    assert (found[:, 0, -1, 0] - found[:, 0, 0, 0] == 7).all()


def test_mnist_m_like_keeps_digits_labels_and_splits_and_tells_photos_apart():
    need("skimage")
    for split in ("train", "val", "test"):
        plain, made = open_source("digits:mnist", split), open_source("digits:mnist-m-like", split)
        assert torch.equal(plain.labels, made.labels)
        assert made.pixels.shape == (len(plain), 3, 28, 28)
        back = open_source("digits:mnist-m-like", split)
        assert made.fingerprint == back.fingerprint
    assert not set(domains.PHOTOS["train"]) & (set(domains.PHOTOS["val"]) | set(domains.PHOTOS["test"]))
    seen = [{photo.tobytes() for photo in packaged_photos(split)} for split in ("train", "test")]
    assert len(seen[0] | seen[1]) == len(seen[0]) + len(seen[1])


def test_without_the_photos_the_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install scikit-image"):
        open_source("digits:mnist-m-like")


# ---- a randomised source


@pytest.mark.parametrize("kind", KINDS)
def test_an_images_randomisation_does_not_depend_on_its_batch(kind):
    shown, palette = images(6, 1), images(4, 3, seed=1)
    whole = randomise(shown, kind, draw_randomisation(seed=1, epoch=2, indices=range(6)), palette)
    alone = randomise(shown[4:5], kind, draw_randomisation(seed=1, epoch=2, indices=[4]), palette)
    assert torch.equal(whole[4:5], alone)
    assert whole.dtype == torch.uint8
    assert whole.shape == (6, 1 if kind == "strokes" else 3, 12, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_epoch_or_index_draws_another_one(kind):
    shown, palette = images(1, 1).expand(20, -1, -1, -1), images(4, 3, seed=1)
    drawn = [(1, 2, range(20)), (2, 2, range(20)), (1, 3, range(20)), (1, 2, range(20, 40))]
    found = [randomise(shown, kind, draw_randomisation(seed=s, epoch=e, indices=i), palette) for s, e, i in drawn]
    assert all(not torch.equal(found[0], other) for other in found[1:])


def test_strokes_grow_and_shrink_a_quarter_each():
    shown = torch.zeros(400, 1, 9, 9, dtype=torch.uint8)
    shown[:, :, 3:6, 3:6] = 255
    found = randomise(shown, "strokes", draw_randomisation(seed=0, epoch=0, indices=range(400)), shown)
    sizes, counts = (found > 0).sum(dim=(1, 2, 3)).unique(return_counts=True)
    assert sizes.tolist() == [4, 9, 16]
    assert (counts - torch.tensor([100, 200, 100])).abs().max() < 45  # 4.5 standard deviations of the middle


@pytest.mark.parametrize("kind", ["colours", "backgrounds"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ink_differs_from_paper_in_every_image(kind, channels):
    shown = torch.zeros(200, 1, 12, 12, dtype=torch.uint8)
    shown[:, :, :, 6:] = 255
    plain = torch.full((3, channels, 12, 12), 128, dtype=torch.uint8)
    plain[0], plain[1] = 10, 200
    drawn = draw_randomisation(seed=0, epoch=0, indices=range(200))
    coloured = drawn.colour[:, 0] >= 0.5  # the others are negatives, of which a middle grey has none
    found = randomise(shown, kind, drawn, plain)[coloured].int()
    contrast = (found[:, :, 0, 0] - found[:, :, 0, -1]).abs()
    assert contrast.min() >= 63  # 64, but for rounding


def test_backgrounds_are_pieces_of_target_images():
    shown = torch.zeros(50, 1, 12, 12, dtype=torch.uint8)
    palette = torch.arange(5, dtype=torch.uint8).mul(50).view(5, 1, 1, 1).expand(-1, 3, 20, 30)
    drawn = draw_randomisation(seed=0, epoch=0, indices=range(50))
    found = randomise(shown, "backgrounds", drawn, palette)
    assert set(found.flatten(1).unique().tolist()) == {0, 50, 100, 150, 200}
    assert (found.flatten(1) == found.flatten(1)[:, :1]).all()


def test_channels_follow_the_net():
    colour = images(3, 3)
    grey = in_channels(colour, 1)
    expected = (colour.double() * torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)).sum(1, keepdim=True)
    assert (grey.double() - expected).abs().max() <= 0.5 + 1e-4
    assert torch.equal(in_channels(grey, 3)[:, 1:2], grey)
    assert in_channels(colour, 3) is colour
