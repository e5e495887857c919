"""Batches: their order, and that it depends on (seed, epoch) alone."""

import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.errors import InputError
from limbeck.images.loader import batches, order, steps_per_epoch
from limbeck.images.source import Source, in_memory
from limbeck.images.sources import open_source
from limbeck.images.views import Augment, draw, render_tensor


def memory(n=40, size=8):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n, 1, size, size), dtype=np.uint8)
    return in_memory(pixels, np.arange(n) % 2, ("a", "b"), spec="made", split="train")


def picture(n, i):
    if i == n:
        raise OSError("image file is truncated")
    values = np.random.default_rng(i).integers(0, 256, (30 + i, 50 - i, 3), dtype=np.uint8)
    return Image.fromarray(values)


def decoded(n=24, broken=-1):
    sizes = torch.tensor([(30 + i, 50 - i) for i in range(n)], dtype=torch.int32)
    keys = tuple(f"{i}.png" for i in range(n))
    read = partial(picture, broken)
    return Source("photos", "train", ("a", "b"), torch.arange(n) % 2, keys, 3, sizes, read, None, "")


def joined(found):
    found = list(found)
    parts = [torch.cat([getattr(batch, name) for batch in found]) for name in ("images", "labels", "indices")]
    return [*parts, *(torch.cat([getattr(b.views, name) for b in found]) for name in ("boxes", "flips"))]


def interleaved(source, augment, batch, ranks, **options):
    """What all ranks get, step by step."""
    own = [
        list(batches(source, augment, batch=batch // ranks, rank=rank, ranks=ranks, **options)) for rank in range(ranks)
    ]
    return [batch for step in zip(*own, strict=True) for batch in step]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_order_is_a_permutation_that_seed_and_epoch_decide():
    first = order(1000, seed=1, epoch=0)
    assert first.dtype == torch.int64
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(first, order(1000, seed=1, epoch=0))
    for other in (order(1000, seed=1, epoch=1), order(1000, seed=2, epoch=0)):
        assert (first == other).sum() < 10


def test_places_in_an_order_are_uniform():
    places = torch.stack([order(10, seed=0, epoch=epoch) for epoch in range(2000)])
    counts = torch.stack([(places == i).sum(0) for i in range(10)])
    assert ((counts - 200) ** 2 / 200).sum() < 137  # chi-square of 81 degrees of freedom at 0.01%


def test_full_shared_memory_is_said_with_the_remedy(monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # workers are forked after this
    with pytest.raises(InputError, match=r"shared memory is full \(unable .*; pass --workers 0, or give the container"):
        list(batches(decoded(), Augment(8, kind="none"), batch=4, seed=0, epoch=0, workers=1))


def test_a_worker_that_dies_ends_the_reading_in_a_sentence():
    def dies(i):
        os.kill(os.getpid(), signal.SIGKILL)

    source = replace(decoded(), read=dies)
    with pytest.raises(InputError, match=r"that decodes images has failed \(DataLoader worker .*; lower --batch"):
        list(batches(source, Augment(8, kind="none"), batch=4, seed=0, epoch=0, workers=1))


@pytest.mark.parametrize(
    ("n", "batch", "ranks", "dropped", "kept"), [(10, 4, 1, 2, 3), (8, 4, 2, 1, 1), (9, 4, 2, 1, 2), (3, 4, 1, 0, 1)]
)
def test_steps_per_epoch_counts_whole_or_begun_steps(n, batch, ranks, dropped, kept):
    assert steps_per_epoch(n, batch=batch, ranks=ranks) == dropped
    assert steps_per_epoch(n, batch=batch, ranks=ranks, drop_last=False) == kept


@pytest.mark.parametrize("kind", ["crop", "shift", "none"])
@pytest.mark.parametrize("make", [memory, decoded])
def test_batches_are_the_same_on_any_number_of_ranks(make, kind):
    options = {"seed": 3, "epoch": 2, "mixup": 0.4, "cutmix": 1.0}
    expected = joined(batches(make(), Augment(8, kind), batch=8, **options))
    for ranks in (1, 2, 4):
        assert same(joined(interleaved(make(), Augment(8, kind), 8, ranks, **options)), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_with_any_number_of_workers(workers):
    options = {"batch": 4, "seed": 3, "epoch": 2}
    expected = joined(batches(decoded(), Augment(16), **options))
    assert same(joined(batches(decoded(), Augment(16), workers=workers, **options)), expected)


@pytest.mark.parametrize(("make", "workers"), [(memory, 0), (decoded, 0), (decoded, 2)])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_start_in_mid_epoch_gives_the_rest_of_the_epoch(make, workers, ranks):
    options = {"batch": 4, "seed": 3, "epoch": 2, "rank": ranks - 1, "ranks": ranks, "mixup": 0.5}
    whole = list(batches(make(), Augment(8), **options))
    rest = list(batches(make(), Augment(8), start=2, workers=workers, **options))
    assert len(rest) == len(whole) - 2
    assert same(joined(rest), joined(whole[2:]))


def test_what_a_start_skips_is_never_decoded():
    read = []

    def counting(i):
        read.append(i)
        return picture(-1, i)

    source = decoded()
    counted = Source(**{**vars(source), "read": counting})
    rest = joined(batches(counted, Augment(8), batch=4, seed=0, epoch=0, start=4))
    assert read == rest[2].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("n", [24, 21, 17])
def test_the_evaluation_order_has_each_image_exactly_once(n, ranks):
    seen = []
    for rank in range(ranks):
        options = {"rank": rank, "ranks": ranks, "shuffle": False, "drop_last": False}
        found = batches(memory(n), Augment(8, "none", crop_pct=1.0), batch=4, seed=0, epoch=0, **options)
        seen += [i for batch in found for i in batch.indices.tolist()]
    assert sorted(seen) == list(range(n))


def test_an_epoch_with_the_last_dropped_has_no_image_twice():
    indices = joined(batches(memory(41), Augment(8), batch=4, seed=0, epoch=0))[2]
    assert len(indices) == len(set(indices.tolist())) == 40


def test_a_batch_says_enough_to_make_its_images_again():
    source = memory()
    for batch in batches(source, Augment(8), batch=8, seed=0, epoch=7):
        assert torch.equal(batch.images, render_tensor(source.pixels[batch.indices], batch.views, 8))
        views = draw(Augment(8), source.sizes[batch.indices], seed=0, epoch=7, indices=batch.indices)
        assert torch.equal(batch.views.boxes, views.boxes)
        assert torch.equal(batch.labels, source.labels[batch.indices])


def test_a_mixed_batch_says_how_it_was_mixed():
    source = memory()
    options = {"batch": 8, "seed": 0, "epoch": 0}
    for plain, mixed in zip(
        batches(source, Augment(8), **options), batches(source, Augment(8), mixup=1.0, **options), strict=True
    ):
        share = mixed.mix.share[:, None, None, None]
        expected = share * plain.images + (1 - share) * plain.images[mixed.mix.partner]
        assert plain.mix is None
        assert (expected - mixed.images).abs().max() <= 0.51


def test_unlabelled_images_come_without_labels():
    source = Source(**{**vars(memory()), "labels": None, "classes": ()})
    assert all(b.labels is None for b in batches(source, Augment(8), batch=8, seed=0, epoch=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_images_leaves_the_global_generator_alone(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(batches(decoded(), Augment(8), batch=8, seed=0, epoch=0, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named(workers):
    with pytest.raises(InputError, match=r"^photos: 5\.png can't be decoded: truncated; list all broken files"):
        list(batches(decoded(broken=5), Augment(8), batch=8, seed=0, epoch=0, workers=workers))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 41}, r"has 40 images, fewer than one step takes \(41 x 1 ranks\); lower --batch"),
        ({"batch": 21, "ranks": 2}, r"fewer than one step takes \(21 x 2 ranks\)"),
        ({"batch": 0}, "give --batch 1 or more"),
        ({"batch": 5, "mixup": 0.1}, "a batch of 5 is odd; make --batch even"),
    ],
)
def test_impossible_batches_are_refused_before_the_first(options, words):
    with pytest.raises(InputError, match=words):
        batches(memory(), Augment(8), seed=0, epoch=0, **options)


def test_the_built_in_digits_make_batches():
    found = list(batches(open_source("digits:"), Augment(28, "shift"), batch=500, seed=0, epoch=0))
    assert [batch.images.shape for batch in found] == [(500, 1, 28, 28)] * 8
