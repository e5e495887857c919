"""Views: what is drawn, and that both renderers show it alike."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from limbeck.errors import InputError
from limbeck.images.views import Augment, Views, draw, hash64, mix, render_image, render_tensor, uniforms


def views_of(*rows):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.int16)
    return Views(boxes, torch.tensor([bool(row[4]) for row in rows]))


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(height, width, channels=3):
    """An image without hard edges, so that rounding is all in which two resamplings may differ."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + c)) * np.cos(y / (4 + c)) for c in range(channels)]
    return torch.from_numpy(np.stack(waves).round().astype(np.uint8))


def by_pillow(pixels, views, size, interpolation="bilinear"):
    images = []
    for image, box, flip in zip(pixels.numpy(), views.boxes.numpy(), views.flips.tolist(), strict=True):
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        images.append(render_image(picture, box, flip, size, interpolation))
    return torch.from_numpy(np.stack(images))


# ---- drawing


def test_hash64_is_the_finaliser_of_splitmix64():
    # the first outputs of splitmix64 from state 0, as its authors publish them
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert hash64(states).tolist() == expected


def test_uniforms_are_uniform_and_uncorrelated_between_draws():
    u = uniforms(0, seed=1, epoch=2, indices=np.arange(20000), draws=4)
    counts = np.stack([np.histogram(u[:, d], bins=20, range=(0, 1))[0] for d in range(4)])
    assert ((counts - 1000) ** 2 / 1000).sum(axis=1).max() < 43.8  # chi-square of 19 degrees of freedom at 0.1%
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03
    neighbours = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(neighbours) < 0.03


@pytest.mark.parametrize("kind", ["crop", "shift", "none"])
def test_a_view_depends_on_its_seed_epoch_and_index_alone(kind):
    augment, sizes = Augment(32, kind), np.array([[60 + i, 90 - i] for i in range(30)])
    together = draw(augment, sizes, seed=3, epoch=1, indices=np.arange(30))
    order = np.random.default_rng(0).permutation(30)
    for part in (order[:7], order[7:8], order[8:]):
        alone = draw(augment, sizes[part], seed=3, epoch=1, indices=part)
        assert torch.equal(alone.boxes, together.boxes[part])
        assert torch.equal(alone.flips, together.flips[part])


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 2}, {"indices": np.arange(30, 60)}])
def test_another_seed_epoch_or_index_gives_other_views(change):
    given = {"seed": 3, "epoch": 1, "indices": np.arange(30)}
    first = draw(Augment(32), (80, 60), **given)
    second = draw(Augment(32), (80, 60), **(given | change))
    assert (first.boxes != second.boxes).any(dim=1).sum() >= 28


@pytest.mark.parametrize("size", [(300, 500), (64, 64), (40, 400)])
def test_crops_are_distributed_as_torchvision_draws_them(size):
    number = 4000
    ours = draw(Augment(32), size, seed=0, epoch=0, indices=np.arange(number)).boxes.numpy()
    torch.manual_seed(0)
    image = torch.empty(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(number)])
    limit = 1.95 * math.sqrt(2 / number)  # two-sample Kolmogorov-Smirnov at 0.1%
    for a, b in zip(ours.T, theirs.T, strict=True):
        grid = np.unique(np.concatenate([a, b]))
        distance = np.abs(np.searchsorted(np.sort(a), grid, "right") - np.searchsorted(np.sort(b), grid, "right"))
        assert distance.max() / number < limit


def test_crops_stay_inside_and_keep_area_and_ratio():
    boxes = draw(Augment(32), (200, 300), seed=0, epoch=0, indices=np.arange(2000)).boxes.numpy().astype(int)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 300).all()
    assert (height * width >= 0.075 * 60000).all()
    assert (width / height > 0.73).all()
    assert (width / height < 1.37).all()


@pytest.mark.parametrize(
    ("size", "box"), [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10)), ((1, 1), (0, 0, 1, 1))]
)
def test_crops_fall_back_to_the_centre_where_no_try_fits(size, box):
    views = draw(Augment(32, scale=(0.9, 1.0)), size, seed=0, epoch=0, indices=np.arange(5))
    assert views.boxes.tolist() == [list(box)] * 5


def test_shifts_take_every_offset_equally_often():
    views = draw(Augment(28, "shift", shift=2), (28, 28), seed=0, epoch=0, indices=np.arange(25000))
    offsets, counts = torch.unique(views.boxes[:, :2], dim=0, return_counts=True)
    assert sorted(map(tuple, offsets.tolist())) == [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    assert ((counts - 1000) ** 2 / 1000).sum() < 51.2  # chi-square of 24 degrees of freedom at 0.1%
    assert (views.boxes[:, 2:] == 28).all()


@pytest.mark.parametrize("kind", ["crop", "shift"])
def test_half_of_the_views_are_flipped_unless_flips_are_off(kind):
    flips = draw(Augment(28, kind), (28, 28), seed=0, epoch=0, indices=np.arange(10000)).flips
    assert abs(flips.float().mean().item() - 0.5) < 0.02
    assert not draw(Augment(28, kind, flip=False), (28, 28), seed=0, epoch=0, indices=np.arange(99)).flips.any()


def test_the_evaluation_view_is_the_centre_square_and_never_flipped():
    views = draw(Augment(224, "none", crop_pct=0.875), [(256, 512), (99, 64)], seed=0, epoch=5, indices=[4, 7])
    assert views.boxes.tolist() == [[16, 144, 224, 224], [21, 4, 56, 56]]
    assert not views.flips.any()


def test_an_image_too_large_for_a_stored_box_is_refused():
    with pytest.raises(InputError, match="40000 pixels is over the limit of 32767"):
        draw(Augment(32), (10, 40000), seed=0, epoch=0, indices=[0])


def test_no_images_give_no_views():
    assert draw(Augment(32), np.zeros((0, 2)), seed=0, epoch=0, indices=[]).boxes.shape == (0, 4)


# ---- rendering


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["shift", "none"])
def test_renderers_agree_exactly_where_nothing_is_resized(kind, channels):
    pixels = noise(50, channels, 28, 28)
    views = draw(Augment(28, kind, shift=3, crop_pct=1.0), (28, 28), seed=0, epoch=0, indices=np.arange(50))
    assert torch.equal(render_tensor(pixels, views, 28), by_pillow(pixels, views, 28))


def test_a_shift_moves_the_image_and_zeros_come_in():
    pixels = noise(1, 1, 5, 5).clamp(min=1)
    moved = render_tensor(pixels, views_of((1, -2, 5, 5, False)), 5)[0, 0]
    assert torch.equal(moved[:4, 2:], pixels[0, 0, 1:, :3])
    assert moved[4].sum() == 0
    assert moved[:, :2].sum() == 0


def test_a_flip_mirrors_left_and_right():
    pixels = noise(2, 3, 6, 6)
    flipped = render_tensor(pixels, views_of((0, 0, 6, 6, True), (0, 0, 6, 6, False)), 6)
    assert torch.equal(flipped[0], pixels[0].flip(2))
    assert torch.equal(flipped[1], pixels[1])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [17, 32, 64])
def test_renderers_agree_within_one_level_where_boxes_are_resized(interpolation, size):
    pixels = smooth(48, 40).expand(60, -1, -1, -1)
    views = draw(Augment(size, "crop"), (48, 40), seed=1, epoch=0, indices=np.arange(60))
    ours = render_tensor(pixels, views, size, interpolation).int()
    theirs = by_pillow(pixels, views, size, interpolation).int()
    assert (ours - theirs).abs().max() <= 1  # Pillow rounds twice, render_tensor once


def test_renderers_agree_on_resized_boxes_that_leave_the_image():
    pixels = noise(4, 1, 20, 20)
    views = views_of((-3, 2, 20, 20, 0), (4, -5, 20, 20, 1), (-2, -2, 24, 24, 0), (0, 0, 9, 30, 1))
    difference = render_tensor(pixels, views, 12).int() - by_pillow(pixels, views, 12).int()
    assert difference.abs().max() <= 1


def test_a_jpeg_decoded_at_a_reduced_scale_shows_the_same_crop():
    image = Image.fromarray(smooth(80, 120).permute(1, 2, 0).numpy()).resize((1205, 803))
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=95)
    box = (37, 101, 700, 900)
    fast = Image.open(io.BytesIO(stored.getvalue()))
    whole = Image.open(io.BytesIO(stored.getvalue()))
    whole.load()
    ours = render_image(fast, box, False, 64).astype(int)
    exact = render_image(whole, box, False, 64).astype(int)
    assert fast.width < 1205
    assert whole.width == 1205
    assert np.abs(ours - exact).mean() < 1.5


def test_rendering_keeps_a_constant_image_constant():
    pixels = torch.full((30, 1, 21, 33), 200, dtype=torch.uint8)
    views = draw(Augment(16), (21, 33), seed=0, epoch=0, indices=np.arange(30))
    for interpolation in ("bilinear", "bicubic"):
        assert (render_tensor(pixels, views, 16, interpolation) == 200).all()


def test_cropping_and_resizing_is_resizing_and_centre_cropping():
    image = Image.fromarray(smooth(256, 320).permute(1, 2, 0).numpy())
    box = draw(Augment(56, "none", crop_pct=0.875), (256, 320), seed=0, epoch=0, indices=[0]).boxes[0]
    resized = np.asarray(image.resize((80, 64), Image.Resampling.BILINEAR)).astype(int)
    ours = render_image(image, box, False, 56).astype(int)
    assert np.abs(ours - resized[4:60, 12:68].transpose(2, 0, 1)).max() <= 1


# ---- mixing


def mixed(images, positions, mixup=0.0, cutmix=0.0, epoch=0):
    return mix(images, seed=5, epoch=epoch, positions=positions, mixup=mixup, cutmix=cutmix)


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixing_is_the_same_on_any_number_of_ranks(alphas):
    images = noise(24, 3, 8, 8)
    together, how = mixed(images, np.arange(48, 72), *alphas)
    for first, last in ((0, 8), (8, 10), (10, 24)):
        part, own = mixed(images[first:last], np.arange(48 + first, 48 + last), *alphas)
        assert torch.equal(part, together[first:last])
        assert torch.equal(own.share, how.share[first:last])
        assert torch.equal(own.partner + first, how.partner[first:last])


def test_partners_are_mutual_and_share_alike():
    _, how = mixed(noise(16, 1, 8, 8), np.arange(16), mixup=0.5, cutmix=0.5)
    every = torch.arange(16)
    assert torch.equal(how.partner[how.partner], every)
    assert (how.partner != every).all()
    assert torch.equal(how.share, how.share[how.partner])


def test_mixup_is_the_weighted_mean():
    images = noise(16, 3, 8, 8)
    out, how = mixed(images, np.arange(16), mixup=1.0)
    share = how.share[:, None, None, None].double()
    expected = share * images.double() + (1 - share) * images[how.partner].double()
    assert (out.double() - expected).abs().max() <= 0.501  # rounded to whole levels


def test_cutmix_share_is_the_share_of_the_area():
    images = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 24, 24)
    out, how = mixed(images, np.arange(40), cutmix=1.0)
    own = (out == images).float().mean(dim=(1, 2, 3))
    assert torch.allclose(own, how.share, atol=1e-6)
    assert ((out == images) | (out == images[how.partner])).all()
    assert how.share.min() < 0.5 < how.share.max()


def test_the_coin_gives_each_pair_mixup_or_cutmix_half_of_the_time():
    images = torch.tensor([0, 200], dtype=torch.uint8).repeat(500)[:, None, None, None].expand(-1, 1, 16, 16)
    out, _ = mixed(images, np.arange(1000), mixup=2.0, cutmix=2.0)
    uniform = (out.flatten(1) == out.flatten(1)[:, :1]).all(dim=1)[::2]
    assert 0.4 < uniform.float().mean() < 0.6


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_mixup_shares_are_beta_distributed(alpha):
    _, how = mixed(torch.zeros(8000, 1, 1, 1, dtype=torch.uint8), np.arange(8000), mixup=alpha)
    ours = np.sort(how.share[::2].double().numpy())
    theirs = np.sort(np.random.default_rng(0).beta(alpha, alpha, 4000).astype(np.float32).astype(float))
    grid = np.unique(np.concatenate([ours, theirs]))
    distance = np.abs(np.searchsorted(ours, grid, "right") - np.searchsorted(theirs, grid, "right")).max() / 4000
    assert distance < 1.95 * math.sqrt(2 / 4000)  # two-sample Kolmogorov-Smirnov at 0.1%


def test_a_last_image_without_a_partner_stays_as_it_is():
    images = noise(5, 1, 8, 8)
    out, how = mixed(images, np.arange(6, 11), mixup=1.0)
    assert torch.equal(out[4], images[4])
    assert how.share[4] == 1
    assert how.partner[4] == 4
