"""The label store: what is stored comes back, belongs to its view, and to nothing else."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limbeck.errors import InputError, VerificationError
from limbeck.images.labelling import merge_shard, merged_manifest, write_shard
from limbeck.images.labels import LabelStore, check_source, pack, recover, shard_path, unfinished
from limbeck.images.loader import batches, repeated
from limbeck.images.manifest import Manifest, Teacher, begin, images_a_shard, read_manifest, record_kind
from limbeck.images.source import Source, in_memory
from limbeck.images.views import Augment
from limbeck.nets import zoo
from limbeck.runs import LABELS
from limbeck.training.settings import Training
from limbeck.verbs.distill import distill
from limbeck.verbs.info import info
from limbeck.verbs.label import label
from limbeck.verbs.merge_labels import merge_labels
from limbeck.verbs.verify_labels import verify_labels

LINEAGE = {"tag": "made", "data": "", "licence": "", "sha256": "00", "teachers": []}
EVERY = torch.arange(12)


def memory(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    return in_memory(pixels, np.arange(12) % 2, ("a", "b"), spec="made", split="train")


def picture(i):
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (30 + i, 50 - i, 3), dtype=np.uint8))


def decoded(read=picture):
    sizes = torch.tensor([(30 + i, 50 - i) for i in range(12)], dtype=torch.int32)
    keys = tuple(f"{i}.png" for i in range(12))
    return Source("photos", "train", ("a", "b"), torch.arange(12) % 2, keys, 3, sizes, read, None, "f")


def manifest(source=None, classes=6, **changes):
    kind, count = record_kind(classes, None, 0)
    made = Manifest(
        data="made", fingerprint=source.fingerprint if source else "f", images=12,
        classes=tuple(f"c{i}" for i in range(classes)), views=3, seed=7, augment=Augment(6, kind="crop"), kind=kind,
        count=count, dtype="float32", tail="spread", average="probabilities", weights=(1.0,), temperature=1.0,
        teacher_dtype="float32", teachers=(Teacher("t", 0.5, LINEAGE),), shard_images=5,
    )  # fmt: skip
    return replace(made, **changes)


def answer(images, gain=1.0):
    """Return a distribution of 6 classes that every pixel has a part in."""
    flat = images.flatten(1).double() / 255
    weights = torch.linspace(-3, 3, flat.shape[1] * 6, dtype=torch.double).sin().view(6, -1)
    return (gain * flat @ weights.T).softmax(dim=1).float()


def write(folder, source, made, said=answer, batch=4):
    found = begin(folder, made)
    for shard in unfinished(folder, found):
        write_shard(folder, found, shard, source, said, batch=batch)
    return LabelStore.open(folder)


def served(store):
    return torch.stack([store.targets(torch.full((12,), view), EVERY) for view in range(store.manifest.views)])


# ---- records ----------------------------------------------------------------------------------------------


def distributions(seed, rows, classes):
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(rows, classes, generator=generator)).softmax(dim=1)


def packed(made, target):
    return pack(made, target, np.arange(len(target)), np.zeros(len(target), dtype=np.int64))


@pytest.mark.parametrize(
    ("classes", "top", "sampled", "dtype", "size"),
    [
        (1000, None, 0, "float16", 29),  # the arithmetic of the docs
        (21_841, None, 0, "float16", 29),
        (10, None, 0, "float16", 29),
        (64, None, 0, "float16", 137),
        (1000, 0, 0, "float32", 4009),
        (1000, 3, 0, "float16", 21),
        (1000, None, 10, "float16", 29),
    ],
)
def test_a_record_has_the_promised_bytes(classes, top, sampled, dtype, size):
    kind, count = record_kind(classes, top, sampled)
    made = manifest(classes=classes, kind=kind, count=count, dtype=dtype)
    assert made.record.itemsize == size
    assert made.bytes == size * 3 * 12 + 32 * 3


def test_whole_float32_records_give_the_very_distributions():
    target = distributions(0, 5, 70)
    made = manifest(classes=70, kind="whole", count=70)
    assert torch.equal(recover(made, packed(made, target)), target)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(2, 30), st.integers(1, 29), st.sampled_from(["float16", "float32"]))
def test_a_top_k_keeps_its_probabilities_and_spreads_the_rest(seed, classes, k, dtype):
    kind, count = record_kind(classes, min(k, classes), 0)
    made = manifest(classes=classes, kind=kind, count=count, dtype=dtype)
    target = distributions(seed, 4, classes)
    found = recover(made, packed(made, target))
    half = 2.0**-11 if dtype == "float16" else 2.0**-24  # rounding of a value; a sum of k of them may bring k times
    assert torch.allclose(found.sum(dim=1), torch.ones(4), atol=classes * half + 1e-6)
    value, ids = target.topk(count, dim=1)
    assert torch.allclose(found.gather(1, ids), value, rtol=(2 + count) * half + 1e-6, atol=2.0**-24)
    if count < classes:
        rest = found.scatter(1, ids, float("nan"))
        rest = rest[~rest.isnan()].view(4, -1)
        assert torch.allclose(rest, (1 - value.sum(1, keepdim=True)) / (classes - count), atol=count * half + 1e-6)


def test_a_renormalised_top_k_has_no_tail_and_sums_to_one():
    made = manifest(classes=30, kind="top", count=4, tail="renormalise", dtype="float16")
    target = distributions(1, 8, 30)
    found = recover(made, packed(made, target))
    assert ((found > 0).sum(dim=1) == 4).all()
    assert torch.allclose(found.sum(dim=1), torch.ones(8), atol=1e-6)


@pytest.mark.parametrize(("kind", "count"), [("top", 4), ("whole", 30)])
def test_hard_labels_are_one_hot_of_the_largest(kind, count):
    made = manifest(classes=30, kind=kind, count=count, tail="hard")
    target = distributions(1, 8, 30)
    assert torch.equal(recover(made, packed(made, target)), torch.eye(30)[target.argmax(dim=1)])


def test_ids_hold_the_last_of_21841_classes():
    kind, count = record_kind(21_841, None, 0)
    made = manifest(classes=21_841, kind=kind, count=count, dtype="float16")
    target = torch.zeros(1, 21_841)
    target[0, 21_840] = 1
    assert torch.equal(recover(made, packed(made, target)), target)


def test_sampled_labels_are_unbiased_and_top_k_is_not():
    target = distributions(2, 1, 6)
    made = manifest(kind="sampled", count=8)
    indices, views = np.arange(4000), np.zeros(4000, dtype=np.int64)
    found = recover(made, pack(made, target.repeat(4000, 1), indices, views)).mean(dim=0)
    error = (target * (1 - target) / (8 * 4000)).sqrt()  # of a mean of 32,000 draws
    assert ((found - target[0]).abs() < 4 * error[0]).all()  # one in 15,000 lies beyond
    top = manifest(kind="top", count=2)
    assert ((recover(top, packed(top, target))[0] - target[0]).abs() > 4 * error[0]).any()


def test_sampled_labels_are_drawn_from_seed_view_and_image_alone():
    target = distributions(3, 6, 6)
    made = manifest(kind="sampled", count=5)
    indices, views = np.array([3, 1, 4, 1, 5, 9]), np.array([0, 1, 0, 2, 1, 0])
    together = pack(made, target, indices, views)
    alone = [pack(made, target[n : n + 1], indices[n : n + 1], views[n : n + 1]) for n in range(6)]
    assert (together == np.concatenate(alone)).all()
    assert (pack(replace(made, seed=8), target, indices, views)["id"] != together["id"]).any()


def test_an_answer_that_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="output NaN or infinity"):
        packed(manifest(), torch.full((1, 6), float("nan")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((70_000, None, 0), "65536"),
        ((10, 3, 4), "give one"),
        ((10, -1, 0), "0 or more"),
        ((10, None, -1), "0 or more"),
        ((10, None, 10**9), "at most 65536"),
    ],
)
def test_impossible_kinds_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        record_kind(*options)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 500), st.floats(0.1, 1e5), st.integers(1, 64))
def test_shards_are_few(images, views, rate, ranks):
    size = images_a_shard(images, views, rate, ranks)
    assert size >= 1
    assert -(-images // size) <= 1024


# ---- the store --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [memory, decoded])
@pytest.mark.parametrize("kind", ["crop", "shift", "none"])
def test_a_label_belongs_to_the_pixels_that_it_is_served_with(tmp_path, make, kind):
    source = make()
    made = manifest(source, augment=Augment(8 if kind == "shift" else 6, kind=kind))
    store = write(tmp_path / "s", source, made)
    for epoch in range(4):
        for batch in batches(source, made.augment, batch=5, seed=1, epoch=epoch, drop_last=False, stored=store):
            assert torch.allclose(batch.targets, answer(batch.images), atol=1e-6)  # sums of float32 in other orders


@pytest.mark.parametrize("make", [memory, decoded])
def test_replayed_batches_are_those_of_a_live_training_of_the_same_seed(tmp_path, make):
    source = make()
    store = write(tmp_path / "s", source, manifest(source))
    for epoch in range(3):
        live = batches(source, Augment(6), batch=4, seed=7, epoch=epoch)
        for one, other in zip(
            live, batches(source, Augment(6), batch=4, seed=7, epoch=epoch, stored=store), strict=True
        ):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.indices, other.indices)


def test_views_repeat_after_the_last(tmp_path):
    source = memory()
    store = write(tmp_path / "s", source, manifest(source))
    epochs = torch.full((12,), 2)
    assert (store.records(epochs, EVERY) == store.records(epochs + 3, EVERY)).all()
    assert (store.records(epochs, EVERY) != store.records(epochs + 1, EVERY)).any()


def test_stored_boxes_are_shown_at_any_size(tmp_path):
    source = decoded()
    store = write(tmp_path / "s", source, manifest(source))
    (small,) = batches(source, Augment(6), batch=12, seed=0, epoch=0, stored=store)
    (large,) = batches(source, Augment(20), batch=12, seed=0, epoch=0, stored=store)
    assert large.images.shape == (12, 3, 20, 20)
    assert torch.equal(small.views.boxes, large.views.boxes)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_is_served_alike_by_workers_and_after_pickling(tmp_path, workers):
    source = decoded()
    store = write(tmp_path / "s", source, manifest(source))
    sent = pickle.dumps(store)
    assert len(sent) < 4096
    again = pickle.loads(sent)
    found = list(batches(source, Augment(6), batch=4, seed=0, epoch=1, stored=again, workers=workers))
    for batch in found:
        assert torch.allclose(batch.targets, answer(batch.images), atol=1e-6)
    assert len(found) == 3


def test_any_batch_size_writes_the_same_store(tmp_path):
    source = decoded()
    one, other = (write(tmp_path / f"{batch}", source, manifest(source), batch=batch) for batch in (4, 7))
    assert torch.allclose(served(one), served(other), atol=1e-6)
    assert (one.records(EVERY % 3, EVERY)["box"] == other.records(EVERY % 3, EVERY)["box"]).all()


def test_a_writer_decodes_an_image_once(tmp_path):
    read = []

    def counting(i):
        read.append(i)
        return picture(i)

    source = decoded(counting)
    write(tmp_path / "s", source, manifest(source, augment=Augment(16)))
    assert sorted(read) == list(range(12))


def test_a_stopped_writer_goes_on_without_computing_finished_shards_again(tmp_path):
    source = memory()
    whole = write(tmp_path / "whole", source, manifest(source))
    asked = []

    def stopping(images):
        if len(asked) == 6:  # 4 batches make the first shard of 5 x 3 views
            raise KeyboardInterrupt
        asked.append(len(images))
        return answer(images)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", source, manifest(source), stopping)
    assert [path.name for path in sorted((tmp_path / "s").iterdir())] == [LABELS, "shard-00000.bin"]
    with pytest.raises(InputError, match=r"2 of 3 shards are missing"):
        LabelStore.open(tmp_path / "s")
    first = shard_path(tmp_path / "s", 0).stat().st_mtime_ns
    store = write(tmp_path / "s", source, manifest(source))
    assert shard_path(tmp_path / "s", 0).stat().st_mtime_ns == first
    assert all(
        shard_path(tmp_path / "s", n).read_bytes() == shard_path(tmp_path / "whole", n).read_bytes() for n in range(3)
    )
    assert torch.equal(served(store), served(whole))


@pytest.mark.slow
def test_a_killed_writer_leaves_finished_shards_whole(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_labels as t\n"
        "asked = []\n"
        "def dying(images):\n"
        "    asked.append(1)\n"
        "    if len(asked) > 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return t.answer(images)\n"
        "source = t.memory(); t.write(Path(sys.argv[1]), source, t.manifest(source), dying)\n"
    )
    folder = tmp_path / "s"
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    source = memory()
    assert unfinished(folder, read_manifest(folder)) == [1, 2]
    store = write(folder, source, manifest(source))
    assert torch.equal(served(store), served(write(tmp_path / "whole", source, manifest(source))))


def damage_byte(folder):
    path = shard_path(folder, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(folder):
    os.truncate(shard_path(folder, 1), 100)


def swap(folder):
    shard_path(folder, 1).write_bytes(shard_path(folder, 0).read_bytes())


def edit(folder):
    document = json.loads((folder / LABELS).read_text())
    (folder / LABELS).write_text(json.dumps({**document, "temperature": 2.0}))


@pytest.mark.parametrize("harm", [damage_byte, truncate, swap, edit])
def test_a_damaged_store_is_refused(tmp_path, harm):
    source = memory()
    write(tmp_path / "s", source, manifest(source))
    harm(tmp_path / "s")
    with pytest.raises(InputError, match="is damaged or belongs to another store"):
        LabelStore.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2), ("images", 0), ("images", "12"), ("images", True), ("views", -1), ("views", 2**50), ("count", 7),
        ("shard_images", 0), ("kind", "pickle"), ("kind", []), ("dtype", "O"), ("tail", "x"), ("classes", ["a", "a"]),
        ("classes", [1, 2]), ("classes", None), ("weights", [float("nan")]), ("weights", []), ("temperature", 0),
        ("temperature", float("inf")), ("augment", {}), ("augment", {"size": 6, "scale": [1], "ratio": [1, 2]}),
        ("teachers", []), ("teachers", [{"spec": "t", "top1": 2.0, "lineage": LINEAGE}]), ("teacher_dtype", "int8"),
        ("teachers", [{"spec": "t", "top1": None, "lineage": {**LINEAGE, "tag": 3}}]), ("seed", 1.5), ("merged", [1]),
        ("fingerprint", None), ("more", 1),
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused_in_a_sentence(tmp_path, key, value):
    document = {**manifest().to_json(), key: value}
    (tmp_path / LABELS).write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"{LABELS} is not"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": 1}', "[" * 100_000])
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / LABELS).write_text(text)
    with pytest.raises(InputError, match=LABELS):
        read_manifest(tmp_path)


def test_ids_and_boxes_that_cannot_be_are_refused(tmp_path):
    made = manifest(classes=70, kind="top", count=5)
    records = packed(made, distributions(0, 2, 70))
    records["id"][0, 0] = 70
    with pytest.raises(InputError, match="class 70 of 70"):
        recover(made, records)


def test_a_store_of_other_images_or_classes_is_refused(tmp_path):
    source = memory()
    made = manifest(source)
    check_source(tmp_path, made, source, made.classes)
    with pytest.raises(InputError, match="has other images"):
        check_source(tmp_path, made, memory(1), made.classes)
    with pytest.raises(InputError, match="labels of 6 classes"):
        check_source(tmp_path, made, source, ("a", "b"))


@pytest.mark.parametrize(
    "changes", [{"views": 4}, {"seed": 8}, {"temperature": 2.0}, {"augment": Augment(5)}, {"kind": "top", "count": 2}]
)
def test_a_store_goes_on_with_the_same_settings_only(tmp_path, changes):
    source = memory()
    write(tmp_path / "s", source, manifest(source))
    with pytest.raises(InputError, match=f"was begun with {next(iter(changes))} = "):
        begin(tmp_path / "s", manifest(source, **changes))


def test_a_store_is_not_begun_in_a_folder_of_other_things(tmp_path):
    (tmp_path / "thesis.txt").write_text("42")
    with pytest.raises(InputError, match="is not a label store"):
        begin(tmp_path, manifest())


# ---- merging ----------------------------------------------------------------------------------------------


def merge(folder, stores, **changes):
    made = begin(folder, merged_manifest(stores, **changes))
    for shard in unfinished(folder, made):
        merge_shard(folder, made, shard, stores)
    return LabelStore.open(folder)


def test_whole_stores_merge_to_what_one_run_of_all_teachers_gives(tmp_path):
    source = memory()
    said = [partial(answer, gain=gain) for gain in (1.0, 2.0, 3.0)]
    pair = write(
        tmp_path / "pair", source, manifest(source, weights=(0.5, 0.5), teachers=(Teacher("t", None, LINEAGE),) * 2),
        lambda images: (said[0](images) + said[1](images)) / 2,
    )  # fmt: skip
    third = write(tmp_path / "third", source, manifest(source), said[2])
    all_three = write(tmp_path / "all", source, manifest(source), lambda images: sum(s(images) for s in said) / 3)
    found = merge(tmp_path / "merged", [pair, third])
    assert torch.allclose(served(found), served(all_three), atol=1e-6)  # float32 sums in another order
    assert found.manifest.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert found.manifest.merged == (pair.manifest.digest, third.manifest.digest)


def test_stores_of_one_teacher_merge_to_the_mean_of_logits(tmp_path):
    source = memory()
    one, other = (
        write(tmp_path / f"{gain}", source, manifest(source), partial(answer, gain=gain)) for gain in (1.0, 2.0)
    )
    between = write(
        tmp_path / "between", source, manifest(source), partial(answer, gain=1.5)
    )  # its logits are the mean
    found = merge(tmp_path / "merged", [one, other], average="logits")
    assert torch.allclose(served(found), served(between), atol=1e-6)
    with pytest.raises(InputError, match="can't be part of a mean of probabilities"):
        merged_manifest([found, one])
    short = merge(tmp_path / "short", [other], kind="top", count=2)
    with pytest.raises(InputError, match="no whole distributions"):
        merged_manifest([one, short], average="logits")


@pytest.mark.parametrize(("k", "dtype"), [(2, "float16"), (4, "float32")])
def test_a_whole_store_is_cut_to_what_had_been_written_short(tmp_path, k, dtype):
    source = memory()
    whole = write(tmp_path / "whole", source, manifest(source))
    made = manifest(source, views=2, kind="top", count=k, dtype=dtype)
    short = write(tmp_path / "short", source, made)
    cut = merge(tmp_path / "cut", [whole], views=2, kind="top", count=k, dtype=dtype)
    assert torch.equal(served(cut), served(short))


def test_top_k_stores_merge_by_the_mean_of_what_is_known(tmp_path):
    source = memory()
    made = manifest(source, kind="top", count=3)
    one, other = (write(tmp_path / f"{gain}", source, made, partial(answer, gain=gain)) for gain in (1.0, 2.0))
    found = merge(tmp_path / "merged", [one, other], kind="whole", count=6)
    assert torch.allclose(served(found), (served(one) + served(other)) / 2, atol=1e-6)


@pytest.mark.parametrize("changes", [{"seed": 8}, {"temperature": 2.0}, {"augment": Augment(6, scale=(0.5, 1.0))}])
def test_stores_of_other_views_or_temperature_do_not_merge(tmp_path, changes):
    source = memory()
    stores = [write(tmp_path / f"{n}", source, manifest(source, **c)) for n, c in enumerate(({}, changes))]
    with pytest.raises(InputError, match=f"differ in {next(iter(changes))}"):
        merged_manifest(stores)


def test_sampled_stores_do_not_merge(tmp_path):
    source = memory()
    with pytest.raises(InputError, match="sampled labels"):
        merged_manifest([write(tmp_path / "s", source, manifest(source, kind="sampled", count=4))])


# ---- several views together -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 3))
def test_repeated_epochs_show_what_single_ones_do(n, repeats, group):
    shown = [repeated(n, seed=3, epoch=group * repeats + e, repeats=repeats) for e in range(repeats)]
    pairs = sorted((int(i), int(e)) for places, epochs in shown for i, e in zip(places, epochs, strict=True))
    assert pairs == [(i, group * repeats + e) for i in range(n) for e in range(repeats)]


def test_an_epoch_without_repeats_is_the_plain_order():
    places, epochs = repeated(9, seed=3, epoch=5, repeats=1)
    from limbeck.images.loader import order

    assert torch.equal(places, order(9, seed=3, epoch=5))
    assert (epochs == 5).all()


def test_repeats_decode_an_image_once_a_batch_and_mix_different_images(tmp_path):
    read = []

    def counting(i):
        read.append(i)
        return picture(i)

    source = decoded(counting)
    store = write(tmp_path / "s", decoded(), manifest(source, augment=Augment(16)))
    found = list(batches(source, Augment(16), batch=6, seed=0, epoch=0, stored=store, repeats=3))
    assert [len(batch.indices.unique()) for batch in found] == [2, 2]
    assert len(read) == 4
    for batch in found:
        assert torch.allclose(batch.targets, answer(batch.images), atol=1e-6)
        assert (batch.indices[0::2] != batch.indices[1::2]).all()
    with pytest.raises(InputError, match="multiple of 6"):
        batches(source, Augment(16), batch=4, seed=0, epoch=0, repeats=3)


# ---- verbs ------------------------------------------------------------------------------------------------

DATA = "digits:mfeat"
SHORT = Training(epochs=2, batch=32, limit=160, lr=0.05, weight_decay=0.0, seed=5)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two untrained teachers: any function of the pixels shows whether labels belong to views."""
    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("teacher")
        made = zoo.create("resnet20", classes=tuple("0123456789"), channels=1, size=28, arguments={"width": 4})
        zoo.save(made, folder)
        folders.append(str(folder))
    return tuple(folders)


def losses(out):
    rows = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["val_nll"]) for row in rows]


def student(out, training=SHORT, **how):
    return distill(
        data=DATA,
        student="resnet20",
        arguments=("width=4",),
        out=str(out),
        training=training,
        weak_teachers=True,
        **how,
    )


def labelled(out, teachers, **how):
    asked = {"views": 2, "limit": 160, "seed": 5, "batch": 32, **how}
    return label(data=DATA, teachers=teachers, out=str(out), weak_teachers=True, **asked)


@pytest.mark.slow
def test_whole_float32_labels_give_the_losses_of_live_teachers(tmp_path, teachers):
    live = student(tmp_path / "live", teachers=teachers, teacher_dtype="float32")
    found = labelled(tmp_path / "labels", teachers, dtype="float32", teacher_dtype="float32")
    replayed = student(tmp_path / "replayed", labels=str(tmp_path / "labels"))
    # The teachers see the same pixels in other batches, and so may differ by rounding; ten steps don't amplify it much.
    assert losses(tmp_path / "replayed") == [pytest.approx(row, rel=1e-4) for row in losses(tmp_path / "live")]
    assert replayed.teachers == live.teachers
    assert json.loads((tmp_path / "replayed" / "labels.json").read_text()) == found.manifest.to_json()
    known = zoo.load(str(tmp_path / "replayed")).lineage.teachers
    assert [teacher.sha256 for teacher in known] == [zoo.load(teacher).lineage.sha256 for teacher in teachers]


@pytest.mark.slow
def test_two_ranks_label_and_replay_as_one_does(tmp_path, teachers):
    script = (
        "import sys; from dataclasses import replace; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import test_labels as t; at, teachers = Path(sys.argv[1]), tuple(sys.argv[3:])\n"
        "half = replace(t.SHORT, batch=16)\n"
        "t.labelled(at / 'labels', teachers, dtype='float32', teacher_dtype='float32')\n"
        "t.student(at / 'live', half, teachers=teachers, teacher_dtype='float32')\n"
        "t.student(at / 'replayed', half, labels=str(at / 'labels'))\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py")]
    at = [str(tmp_path), str(Path(__file__).parent), *teachers]
    done = subprocess.run([sys.executable, *command, *at], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alone = labelled(tmp_path / "alone", teachers, dtype="float32", teacher_dtype="float32")
    both = LabelStore.open(tmp_path / "labels")
    places, views = torch.arange(160), torch.arange(160) % 2
    one = LabelStore.open(tmp_path / "alone")
    assert (both.manifest.shards, alone.manifest.shards) == (8, 4)  # four a rank
    assert torch.allclose(one.targets(views, places), both.targets(views, places), atol=1e-5)  # other batches
    assert losses(tmp_path / "replayed") == [pytest.approx(row, rel=1e-4) for row in losses(tmp_path / "live")]


@pytest.mark.slow
def test_labelling_again_computes_nothing_and_refuses_other_settings(tmp_path, teachers):
    told = []
    first = labelled(tmp_path / "labels", teachers, tell=lambda event, values: told.append(values))
    text = " ".join(str(values.get("text")) for values in told)
    assert "top-1" in text
    assert "9,408 bytes, 29 per view; 320 views left" in text
    told.clear()
    again = labelled(tmp_path / "labels", teachers, tell=lambda event, values: told.append(values))
    assert "0 views left" in " ".join(str(values.get("text")) for values in told)
    assert again.manifest == first.manifest
    with pytest.raises(InputError, match="was begun with views = 2, now it is 3"):
        labelled(tmp_path / "labels", teachers, views=3)
    with pytest.raises(InputError, match="was begun with teachers"):
        labelled(tmp_path / "labels", teachers[::-1])


@pytest.mark.slow
def test_verify_finds_teachers_that_say_otherwise(tmp_path, teachers):
    labelled(tmp_path / "labels", teachers, top=3)
    fine = verify_labels(str(tmp_path / "labels"), teachers=teachers, limit=160)
    assert fine.views == 320
    assert fine.difference <= fine.limit
    with pytest.raises(VerificationError, match="has other weights"):
        verify_labels(str(tmp_path / "labels"), teachers=teachers[::-1], limit=160)
    store = LabelStore.open(tmp_path / "labels")
    write(
        tmp_path / "wrong",
        open_train(),
        replace(store.manifest, merged=("x",)),
        lambda images: distributions(0, len(images), 10),
    )
    with pytest.raises(VerificationError, match="outputs differ"):
        verify_labels(str(tmp_path / "wrong"), teachers=teachers, limit=160)


def open_train():
    from limbeck.training.sets import open_sets

    return open_sets(DATA, SHORT, labelled=False).train


@pytest.mark.slow
def test_info_tells_the_lineage(tmp_path, teachers):
    labelled(tmp_path / "labels", teachers)
    rows = dict(info(str(tmp_path / "labels")).rows())
    assert zoo.load(teachers[0]).lineage.sha256[:12] in rows[f"teacher {teachers[0]}"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"temperature": 2.0}, "--temperature is 2.0, but the labels"),
        ({"temperature": 0.0}, "--temperature is 0.0; give one from 0.001"),
        ({"weights": (0.0, 0.0)}, r"--weights are \(0.0, 0.0\) for 2 teachers"),
        ({"hard_weight": -1.0}, "--hard-weight is -1.0"),
        ({"discriminator_lr": 0.0}, "--discriminator-lr is 0.0"),
        ({"average": "logits"}, "--average is logits"),
        ({"training": replace(SHORT, augment="crop")}, "--augment is crop, but the labels .* were made with shift"),
        ({"training": replace(SHORT, shift=3)}, "--shift is 3"),
        ({"training": replace(SHORT, flip="yes")}, "--flip is yes"),
        ({"training": replace(SHORT, limit=150)}, "has other images"),
        ({"teachers": ("t",)}, "one of the two"),
        ({"labels": None}, "one of the two"),
    ],
)
def test_a_student_is_refused_labels_that_are_not_of_its_views(tmp_path, made_labels, how, words):
    with pytest.raises(InputError, match=words):
        student(tmp_path / "s", **{"labels": made_labels, **how})
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
@pytest.mark.parametrize("hard_weight", [0.0, 1.0])
def test_a_limited_store_serves_students_of_any_seed(tmp_path, made_labels, hard_weight):
    training = replace(SHORT, seed=SHORT.seed + 1)
    assert student(tmp_path / "s", training, labels=made_labels, hard_weight=hard_weight).epochs == SHORT.epochs


@pytest.fixture(scope="module")
def made_labels(tmp_path_factory, teachers):
    folder = tmp_path_factory.mktemp("labels") / "labels"
    labelled(folder, teachers)
    return str(folder)


@pytest.mark.slow
def test_mixing_the_discriminator_and_repeats_work_from_the_store(tmp_path, made_labels):
    told = []
    training = replace(SHORT, epochs=3, mixup=0.2, cutmix=1.0, repeats=2)
    student(
        tmp_path / "s", training, labels=made_labels, discriminator="cooperative",
        tell=lambda event, values: told.append(str(values.get("text"))),
    )  # fmt: skip
    text = " ".join(told)
    assert "get the mix of their stored labels" in text
    assert "3 epochs replay 2 views" in text
    row = json.loads((tmp_path / "s" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"similarity", "discriminator"} <= row.keys()


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_store(tmp_path, teachers, made_labels):
    student(tmp_path / "s", labels=made_labels)
    other = tmp_path / "labels"
    labelled(other, teachers, tail="hard")
    os.rename(made_labels, made_labels + "-kept")
    os.symlink(other, made_labels)
    try:
        with pytest.raises(InputError, match="is not the store"):
            student(tmp_path / "s", replace(SHORT, resume=True), labels=made_labels)
    finally:
        os.unlink(made_labels)
        os.rename(made_labels + "-kept", made_labels)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"teachers": ()}, "--teachers"),
        ({"views": 0}, "--views is 0"),
        ({"weights": (1.0, 2.0)}, "--weights"),
        ({"temperature": 0.0}, "--temperature"),
    ],
)
def test_what_nobody_can_label_by_is_refused(tmp_path, how, words):
    with pytest.raises(InputError, match=words):
        label(**{"out": str(tmp_path / "x"), "data": DATA, "teachers": ("t",), **how})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [merge_labels, verify_labels])
def test_what_is_no_store_is_neither_merged_nor_verified(tmp_path, verb):
    more = {"out": str(tmp_path / "x")} if verb is merge_labels else {}
    with pytest.raises(InputError, match="is not a label store"):
        verb((str(tmp_path),) if verb is merge_labels else str(tmp_path), **more)
    assert not any(tmp_path.iterdir())
