"""Laws of classifiers: what they see, what they say, and that no weight is ever lost or made up on the way."""

import argparse
import inspect
import json
import pathlib
import pickle
import urllib.error
import urllib.request
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_type_hints

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.models import save_for_hf
from torch import nn

import limbeck
from limbeck.errors import InputError
from limbeck.nets import zoo
from limbeck.nets.classifier import Classifier, Input, Lineage, numbered
from limbeck.nets.tags import build
from limbeck.nets.weights import put
from limbeck.runs import read_json, tomllib
from limbeck.verbs.distill import distill

CLASSES = ("ant", "bee", "cow", "dog")


def images(channels=3, height=32, width=32, count=3):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def small(channels=3, **keywords):
    torch.manual_seed(0)
    made = zoo.create("test_resnet", **{"classes": CLASSES, "channels": channels, "size": 32, **keywords})
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, not the identity
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


@pytest.fixture
def run(tmp_path):
    made = small()
    zoo.save(made, tmp_path / "run")
    return tmp_path / "run", made


def edited(folder, change):
    document = read_json(folder / "model.json")
    change(document)
    (folder / "model.json").write_text(json.dumps(document))
    return str(folder)


# what a net sees


def test_prepare_normalises_as_torchvision_does():
    made = small(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    expected = torchvision.transforms.functional.normalize(images() / 255, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    torch.testing.assert_close(made.prepare(images()), expected, rtol=0, atol=1e-6)


def test_floating_point_images_are_in_0_to_255_too():
    made = small()
    assert torch.equal(made.prepare(images()), made.prepare(images().float()))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_prepare_resizes_as_pillow_does(interpolation):
    made = small(mean=(0.0,) * 3, std=(1.0,) * 3)
    made.input = replace(made.input, interpolation=interpolation)
    kind = torchvision.transforms.InterpolationMode(interpolation)
    view = images(height=70, width=50) // 2 + 64  # Pillow would clip overshoots between its two passes
    pictures = [torchvision.transforms.functional.to_pil_image(image) for image in view]
    resized = [torchvision.transforms.functional.resize(picture, [32, 32], kind) for picture in pictures]
    expected = torch.stack([torchvision.transforms.functional.pil_to_tensor(each) for each in resized]) / 255
    assert (made.prepare(view) - expected).abs().max() <= 1.5 / 255  # and it rounds after each of them


def test_grey_is_repeated_and_rgb_is_weighted_by_luma():
    grey = images(channels=1)
    assert torch.equal(small().prepare(grey), small().prepare(grey.expand(-1, 3, -1, -1)))
    rgb = images().double()
    luma = 0.299 * rgb[:, :1] + 0.587 * rgb[:, 1:2] + 0.114 * rgb[:, 2:]
    one = small(channels=1)
    torch.testing.assert_close(one.prepare(images()), one.prepare(luma.float()), rtol=0, atol=1e-5)


def test_prepare_follows_the_dtype_and_memory_format_of_the_net():
    made = small()
    assert made.prepare(images()).is_contiguous()
    made.net.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    seen = made.prepare(images())
    assert seen.dtype == torch.bfloat16
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert made(images()).dtype == torch.float32


def test_one_channel_takes_the_mean_of_the_tags_constants():
    seen = small(channels=1).input
    config = timm.get_pretrained_cfg("test_resnet")
    assert seen.mean == pytest.approx([sum(config.mean) / 3])
    assert seen.channels == 1


def test_an_input_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="positive std"):
        small(std=(0.5, 0.0, 0.5))
    with pytest.raises(InputError, match="1 or 3 channels"):
        small(mean=(0.5,))


# create


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50.ram_in1k", zoo.Input(224, 3, *IMAGENET, "bicubic", 0.875)),
        ("tf_mobilenetv3_small_075.in1k", zoo.Input(224, 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.875)),
        ("tv/resnet18.IMAGENET1K_V1", zoo.Input(224, 3, *IMAGENET, "bilinear", 224 / 256)),
    ],
)
def test_each_tag_has_its_own_eyes(name, expected):
    assert zoo.create(name, classes=CLASSES, channels=3).input == expected


def test_equal_seeds_create_equal_nets_of_ours_and_of_timm():
    for name in ("dsodenet20", "test_efficientnet"):
        torch.manual_seed(3)
        one = zoo.create(name, classes=CLASSES, channels=1)
        torch.manual_seed(3)
        other = zoo.create(name, classes=CLASSES, channels=1)
        assert torch.equal(one(images(1)), other(images(1)))
        assert one.lineage.tag == f"{name}, random weights"


def test_a_net_of_one_size_is_built_for_the_size():
    made = zoo.create("test_vit", classes=CLASSES, channels=3, size=64)
    assert made.arguments == {"img_size": 64}
    assert made(images()).shape == (3, 4)


def test_a_size_that_a_net_cannot_take_is_refused():
    with pytest.raises(InputError, match=r"^tv/alexnet can't take 28 px \(.+\); give another size$"):
        zoo.create("tv/alexnet", classes=CLASSES, channels=3, size=28)


@pytest.mark.parametrize("name", ["resnet51", "tv/resnet51", "tv/fasterrcnn_resnet50_fpn", "tv/googlenet"])
def test_an_unknown_architecture_is_refused(name):
    with pytest.raises(InputError, match="is not a net that"):
        zoo.create(name, classes=CLASSES, channels=3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pretrained": True},
        {"pretrained_cfg": {"file": "x"}},
        {"checkpoint_path": "x"},
        {"num_classes": 7},
        {"drop_rate": {"a": 1}},
        {"drop_rate": float("nan")},
        {"drop_rate": "much"},
        {"global_pool": "much"},
        {"steps": 3},
    ],
)
def test_arguments_beyond_the_architectures_own_are_refused(arguments):
    with pytest.raises(InputError, match="test_resnet"):
        zoo.create("test_resnet", classes=CLASSES, channels=3, arguments=arguments)


def test_pretrained_means_a_pinned_tag():
    with pytest.raises(InputError, match=r"does not say which weights.*resnet50\.ram_in1k"):
        zoo.create("resnet50", classes=CLASSES, channels=3, pretrained=True)
    with pytest.raises(InputError, match=r"tv/resnet18\.IMAGENET1K_V1$"):
        zoo.load("tv/resnet18.DEFAULT")
    with pytest.raises(InputError, match="there are none"):
        zoo.load("dsodenet20")


def test_fine_tuning_makes_a_new_head_says_so_and_keeps_all_else(run):
    folder, made = run
    tuned = zoo.create(str(folder), classes=("x", "y"), channels=3, pretrained=True)
    assert tuned.lineage.tag == "test_resnet, random weights, new head of 2 classes"
    old, new = made.net.state_dict(), tuned.net.state_dict()
    assert {key for key in old if not torch.equal(old[key], new[key])} == {"fc.weight", "fc.bias"}


def test_as_many_other_classes_get_a_new_head_too(run):
    folder, made = run
    tuned = zoo.create(str(folder), classes=("w", "x", "y", "z"), channels=3, pretrained=True)
    assert not torch.equal(tuned.net.fc.weight, made.net.fc.weight)
    assert "new head of 4" in tuned.lineage.tag


def test_the_same_classes_keep_their_head(run):
    folder, made = run
    tuned = zoo.create(str(folder), classes=CLASSES, channels=3, pretrained=True, size=48).eval()
    assert torch.equal(tuned.net.fc.weight, made.net.fc.weight)
    assert tuned.input.size == 48


# save and load


@pytest.mark.parametrize(
    ("name", "channels", "arguments"),
    [
        ("test_resnet", 3, {}),
        ("test_efficientnet", 1, {"drop_rate": 0.2}),
        ("test_vit", 3, {"img_size": 32}),
        ("dsodenet20", 1, {"steps": (2, 1, 1), "solver": "rk4"}),
        ("tv/squeezenet1_1", 3, {}),
    ],
)
def test_a_loaded_run_answers_bit_for_bit_as_the_saved_net(tmp_path, name, channels, arguments):
    torch.manual_seed(1)
    made = zoo.create(name, classes=CLASSES, channels=channels, size=32, arguments=arguments).eval()
    lineage = zoo.save(made, tmp_path)
    loaded = zoo.load(str(tmp_path)).eval()
    assert torch.equal(loaded(images(channels, 40, 36)), made(images(channels, 40, 36)))
    assert (loaded.input, loaded.classes, loaded.lineage) == (made.input, made.classes, lineage)


def test_equal_nets_have_equal_fingerprints_whatever_their_memory_format(tmp_path):
    made = small()
    first = zoo.save(made, tmp_path)
    made.net.to(memory_format=torch.channels_last)
    assert zoo.save(made, tmp_path) == first


@pytest.mark.slow
def test_a_compiled_net_is_saved_as_the_plain_one(tmp_path):
    made = small()
    plain = zoo.save(made, tmp_path)
    made.net = torch.compile(made.net)
    assert zoo.save(made, tmp_path) == plain


def test_lineage_survives_with_its_teachers(tmp_path):
    made = small()
    made.lineage = zoo.Lineage("runs/a", "own", "MIT", "", (zoo.Lineage("t1"), zoo.Lineage("t2", "JFT-300M")))
    zoo.save(made, tmp_path)
    assert zoo.load(str(tmp_path)).lineage.teachers == made.lineage.teachers


def test_a_changed_weight_file_is_noticed(run):
    folder, _ = run
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="changed since"):
        zoo.load(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=9), "format 9"),
        (lambda d: d.update(extra=1), "unknown fields: extra"),
        (lambda d: d.update(name=["resnet18"]), "name must be a str"),
        (lambda d: d.update(name="os.system"), "is not a net that"),
        (lambda d: d.update(name="hf-hub:evil/net"), "is not a net that"),
        (lambda d: d.update(arguments={"checkpoint_path": "/etc/passwd"}), "takes no argument"),
        (lambda d: d.update(arguments=[]), "arguments must be a dict"),
        (lambda d: d.update(classes=["a", "a", "b", "c"]), "different names"),
        (lambda d: d.update(classes=[1, 2, 3, 4]), "different names"),
        (lambda d: d.update(classes=["a", "b"]), r"fc.weight is \(4, 96\), not \(2, 96\)"),
        (lambda d: d["input"].update(size=10**9), "size 1 to 4096"),
        (lambda d: d["input"].update(size=True), "size must be a int, not bool"),
        (lambda d: d["input"].update(mean=[float("nan")] * 3), "finite"),
        (lambda d: d["input"].update(channels=2), "1 or 3 channels"),
        (lambda d: d["input"].update(interpolation="magic"), "bilinear or bicubic"),
        (lambda d: d["lineage"].update(teachers=["x"]), "must be lineages"),
        (lambda d: d.pop("lineage"), "lineage must be a dict"),
    ],
)
def test_a_hostile_model_json_is_refused_with_its_reason(run, change, message):
    with pytest.raises(InputError, match=message):
        zoo.load(edited(run[0], change))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00"])
def test_what_is_not_a_json_object_is_refused(run, text):
    (run[0] / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        zoo.load(str(run[0]))


# weight files


def weights(tmp_path, state, name="w.pth"):
    torch.save(state, tmp_path / name)
    return f"test_resnet@{tmp_path / name}"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {}, "state_dict_ema": state},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        # timm's train.py
        lambda state: {"epoch": 3, "arch": "r", "state_dict": state, "args": argparse.Namespace(lr=0.1, model="r")},
        # Lightning's: the net is an attribute of the module, beside losses and metrics
        lambda state: {
            "pytorch-lightning_version": "2.5.0",
            "hyper_parameters": {"lr": 0.1},
            "state_dict": {"loss.weight": torch.ones(3), **{f"model.{key}": value for key, value in state.items()}},
        },
        lambda state: {"pytorch-lightning_version": "2.5.0", "state_dict": state},
    ],
)
def test_a_weight_file_is_loaded_from_its_usual_wrappings(tmp_path, wrap):
    made = small(channels=1)
    loaded = zoo.load(weights(tmp_path, wrap(made.net.state_dict()))).eval()
    assert torch.equal(loaded.net(torch.ones(1, 1, 32, 32)), made.net(torch.ones(1, 1, 32, 32)))
    assert loaded.classes == ("0", "1", "2", "3")


def test_what_a_file_holds_beside_weights_is_named_and_torchs_advice_is_not_given(tmp_path):
    torch.save({"state_dict": small().net.state_dict(), "config": pathlib.PurePosixPath("x")}, tmp_path / "w.ckpt")
    with pytest.raises(InputError) as caught:
        zoo.load(f"test_resnet@{tmp_path / 'w.ckpt'}")
    said = str(caught.value)
    assert said.endswith("and only weights are read; save the net's state_dict() alone")
    assert "pathlib" in said
    assert not set(said) & {"\n", "`"}
    assert "weights_only" not in said


def test_a_missing_head_is_never_made_up(tmp_path):
    state = small().net.state_dict()
    del state["fc.weight"], state["fc.bias"]
    with pytest.raises(InputError, match=r"fc\.weight is missing; fc\.bias is missing"):
        zoo.load(weights(tmp_path, state), classes=CLASSES)
    with pytest.raises(InputError, match="how many classes"):
        zoo.load(weights(tmp_path, state))


def test_unknown_misshaped_and_integer_weights_are_named_up_to_five(tmp_path):
    state = small().net.state_dict()
    with pytest.raises(InputError, match=r"extra is unknown$"):
        zoo.load(weights(tmp_path, state | {"extra": torch.ones(1)}))
    with pytest.raises(InputError, match=r"bn1\.weight is \(1,\), not \(32,\)$"):
        zoo.load(weights(tmp_path, state | {"bn1.weight": torch.ones(1)}))
    with pytest.raises(InputError, match=r"bn1\.bias is torch\.int64, not torch\.float32$"):
        zoo.load(weights(tmp_path, state | {"bn1.bias": torch.zeros(32, dtype=torch.int64)}))
    with pytest.raises(InputError, match=r"(.* is unknown){5} and 2 more$"):
        zoo.load(weights(tmp_path, state | {f"extra{i}": torch.ones(1) for i in range(7)}))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = small().net.state_dict()
    with pytest.raises(InputError, match=r"not finite, in bn1\.weight"):
        zoo.load(weights(tmp_path, state | {"bn1.weight": torch.full((32,), float("nan"))}))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_pickle_that_poses_as_weights_is_not_run(tmp_path):
    for name, data in (("a.pth", Trap()), ("b.bin", {"state_dict": {"fc.weight": Trap()}})):
        (tmp_path / name).write_bytes(pickle.dumps(data))
        with pytest.raises(InputError, match="does not hold plain weights"):
            zoo.load(f"test_resnet@{tmp_path / name}")
    torch.save(nn.Linear(2, 2), tmp_path / "c.pt")
    with pytest.raises(InputError, match="does not hold plain weights"):
        zoo.load(f"test_resnet@{tmp_path / 'c.pt'}")


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"\x08" + b"\0" * 7 + b"[[[[[[[[", b"\x02" + b"\0" * 7 + b"{}"])
def test_a_broken_safetensors_file_is_refused(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(InputError, match=r"w\.safetensors"):
        zoo.load(f"test_resnet@{tmp_path / 'w.safetensors'}", classes=CLASSES)


def test_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        zoo.load(f"test_resnet@{tmp_path / 'w.pth'}")
    with pytest.raises(InputError, match=r"\.safetensors"):
        zoo.load(f"test_resnet@{tmp_path / 'w.onnx'}")
    with pytest.raises(InputError, match=r"no model\.json"):
        zoo.load(str(tmp_path))
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(InputError, match=rf"is a file, which does not say of which net; give NAME@{tmp_path}/w\.pth"):
        zoo.load(str(tmp_path / "w.pth"))


def test_weights_hold_only_tensors_by_name(tmp_path):
    for state in ([torch.ones(1)], {}, {"a": 3}, {"state_dict": {"a": [1]}}):
        with pytest.raises(InputError, match="state_dict"):
            zoo.load(weights(tmp_path, state))


# timm's and the hub's layouts, tags with their file


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_as_timm_writes_it_answers_as_the_net(tmp_path, safe):
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=4, in_chans=1).eval()
    net.pretrained_cfg["input_size"] = (1, 160, 160)  # timm before 1.0.31 leaves it at three channels
    config = {"label_names": list(CLASSES)}
    save_for_hf(net, tmp_path, model_config=config, safe_serialization=safe)
    loaded = zoo.load(f"local-dir:{tmp_path}").eval()
    assert loaded.classes == CLASSES
    assert loaded.input == zoo.create("test_efficientnet", classes=CLASSES, channels=1).input
    views = images(1, 160, 160)
    assert torch.equal(loaded(views), net(loaded.prepare(views)))


def test_a_tag_with_its_file_needs_no_network_and_knows_imagenet(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet").eval()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    loaded = zoo.load(f"test_resnet.r160_in1k@{tmp_path / 'w.safetensors'}").eval()
    assert len(loaded.classes) == 1000
    assert loaded.classes[0] == "n01440764"
    assert loaded.lineage.tag == "test_resnet.r160_in1k"
    assert torch.equal(loaded(images(3, 160, 160)), net(loaded.prepare(images(3, 160, 160))))


def test_a_tag_with_half_of_its_file_is_refused_also_where_timm_would_load_it(tmp_path):
    for name in ("test_resnet", "test_convnext"):  # timm loads its ConvNeXts loosely
        state = timm.create_model(name).state_dict()
        del state[next(key for key in state if key.endswith("fc.weight"))]
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match="weights of test_"):
            zoo.load(f"{name}.r160_in1k@{tmp_path / 'w.safetensors'}")


def test_torchvisions_tag_with_its_file_answers_as_torchvisions_net(tmp_path):
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1().eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    loaded = zoo.load(f"tv/squeezenet1_1.IMAGENET1K_V1@{tmp_path / 'w.pth'}").eval()
    assert loaded.lineage.data == "ImageNet-1k"
    assert torch.equal(loaded(images(3, 224, 224)), net(loaded.prepare(images(3, 224, 224))))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50.ram_in1k", r"timm/resnet50\.ram_in1k .*no route.*give resnet50\.ram_in1k@FILE$"),
        ("tv/resnet18.IMAGENET1K_V1", r"resnet18-f37072fd\.pth .*no route.*give tv/resnet18\.IMAGENET1K_V1@FILE$"),
        ("hf-hub:someone/net@v1", r"someone/net@v1 .*no route.*give local-dir:FOLDER$"),
    ],
)
def test_without_a_network_one_sentence_names_the_place_and_the_remedy(monkeypatch, tmp_path, spec, message):
    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"could not fetch .*{message}"):
        zoo.load(spec)


# classes


def test_equal_classes_need_no_note():
    assert zoo.check_classes(small(), CLASSES) == ""


def test_other_order_is_put_in_order_and_back(tmp_path):
    made, other = small(), ("dog", "ant", "cow", "bee")
    before = made(images())
    assert "another order" in zoo.check_classes(made, other)
    assert torch.equal(made(images()), before[:, [3, 0, 2, 1]])
    zoo.save(made, tmp_path)
    loaded = zoo.load(str(tmp_path)).eval()
    assert loaded.classes == CLASSES
    assert torch.equal(loaded(images()), before)
    zoo.check_classes(made, CLASSES)
    assert torch.equal(made(images()), before)


def test_other_counts_and_other_names_are_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"has 4 classes and the data has 2; fine-tune"):
        zoo.check_classes(small(), ("ant", "bee"))
    with pytest.raises(InputError, match=r"does not have the data's class 'eel'; fine-tune"):
        zoo.check_classes(small(), ("ant", "bee", "cow", "eel"))


def test_unknown_names_are_counted_and_noted():
    made = small(classes=("0", "1", "2", "3"))
    assert "the data's order is assumed" in zoo.check_classes(made, CLASSES)


# the table and the teachers' speed


def test_each_tag_of_the_table_is_one_of_timms():
    assert set(zoo.ZOO) <= set(timm.list_pretrained())


def as_transformers_has_it(folder, made):
    """Write what transformers' TimmWrapper saves."""
    folder.mkdir()
    config = {
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "architecture": "test_resnet",
        "id2label": {"0": "ant", "1": "bee", "2": "cow", "3": "doe"},
        "num_classes": 4,
        "pretrained_cfg": {"input_size": [1, 32, 32], "mean": [0.5], "std": [0.25], "interpolation": "bilinear"},
        "model_args": {"in_chans": 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = {f"timm_model.{key}": value.contiguous() for key, value in made.net.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    return config


def test_a_folder_of_transformers_timm_wrapper_answers_as_the_net_and_names_its_classes(tmp_path):
    made = small(channels=1)
    as_transformers_has_it(tmp_path / "hub", made)
    loaded = zoo.load(f"local-dir:{tmp_path / 'hub'}").eval()
    assert torch.equal(loaded.net(torch.ones(1, 1, 32, 32)), made.eval().net(torch.ones(1, 1, 32, 32)))
    assert loaded.classes == ("ant", "bee", "cow", "doe")


def test_another_folder_of_transformers_is_refused_with_a_way_out(tmp_path):
    config = as_transformers_has_it(tmp_path / "hub", small(channels=1))
    del config["architecture"]
    config["architectures"] = ["ResNetForImageClassification"]
    (tmp_path / "hub/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds a ResNetForImageClassification of the package transformers, which is"):
        zoo.load(f"local-dir:{tmp_path / 'hub'}")


def test_an_interrupted_run_is_unfinished(tmp_path):
    (tmp_path / "recipe.toml").write_text('verb = "teach"\n')
    for read in (lambda: zoo.load(str(tmp_path)), lambda: zoo.create(str(tmp_path), classes=CLASSES, channels=3)):
        with pytest.raises(InputError, match="is unfinished: go on with --resume and the command that began it"):
            read()


def torchvisions():
    return torchvision.models.list_models(module=torchvision.models, exclude=("googlenet", "inception_v3"))


@pytest.mark.slow
def test_weights_of_every_torchvision_architecture_fit_when_they_come_back_as_plain_tensors(monkeypatch):
    widths = torchvision.models.regnet.BlockParams.from_init_params

    def computed(**keywords):
        with torch.device("cpu"):  # a RegNet computes its widths with tensors
            return widths(**keywords)

    monkeypatch.setattr(torchvision.models.regnet.BlockParams, "from_init_params", computed)
    with torch.device("meta"):  # no values: it is about names, shapes and versions
        for name in torchvisions():
            one, other = (build(f"tv/{name}", {}, classes=5, channels=3) for _ in range(2))
            put(other, dict(one.state_dict()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tv/mnasnet0_5", "tv/squeezenet1_1", "efficientnet_lite0", "mobilenetv3_small_050"])
def test_a_saved_net_of_any_family_is_loaded(tmp_path, name):
    made = zoo.create(name, classes=CLASSES, channels=3, size=64).eval()
    zoo.save(made, tmp_path)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(zoo.load(str(tmp_path)).eval()(image), made(image))


# ---- the order of classes


NUMBERS = tuple(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2, ...: as torchvision sorts folders


def unnamed(count=12):
    net = build("test_resnet", {}, classes=count, channels=1)
    seen = Input(32, 1, (0.5,), (0.5,))
    return Classifier(
        net, name="test_resnet", arguments={}, classes=numbered(count), input=seen, lineage=Lineage("test_resnet@w")
    )


@pytest.mark.parametrize("classes", [NUMBERS, tuple(sorted(f"class{i}" for i in range(12)))])
def test_classes_that_a_file_does_not_name_are_asked_for_where_two_orders_differ(classes):
    with pytest.raises(InputError, match=r"number 2 may be '(class)?10' .* or '(class)?2' .*: pass --class-order lex"):
        zoo.check_classes(unnamed(), classes)
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    plain = unnamed().eval()
    as_it_is = plain(images)
    assert "are taken in lexical order" in zoo.check_classes(plain, classes, order="lexical")
    assert plain.classes == classes
    assert torch.equal(plain(images), as_it_is)
    natural = unnamed().eval()
    natural.load_state_dict(plain.state_dict())
    zoo.check_classes(natural, classes, order="natural")
    places = [int(name.removeprefix("class")) for name in classes]
    assert torch.equal(natural(images), as_it_is[:, places])


def test_up_to_ten_numbers_have_one_order_and_named_classes_never_ask():
    assert zoo.check_classes(unnamed(10), numbered(10)) == ""
    named = small(classes=NUMBERS)
    assert zoo.check_classes(named, NUMBERS) == ""


def test_a_net_that_goes_on_to_be_trained_keeps_the_names_of_its_data(tmp_path):
    zoo.save(unnamed(3), tmp_path)
    spec = f"test_resnet@{tmp_path / 'model.safetensors'}"
    made = zoo.create(spec, classes=("ant", "bee", "cow"), channels=1, pretrained=True)
    assert made.classes == ("ant", "bee", "cow")


def test_the_table_names_outside_data():
    assert {tag for tag, entry in zoo.ZOO.items() if entry.data != "ImageNet-1k"} == {"tf_efficientnet_b4.ns_jft_in1k"}


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_a_frozen_teacher_answers_alike_and_takes_no_gradient(dtype, bound):
    made = small()
    before = made(images())
    assert zoo.freeze(made, dtype=dtype) is made
    after = made.train(False)(images())
    assert not after.requires_grad
    assert after.dtype == torch.float32
    assert (after - before).abs().max() <= bound * (before.max() - before.min())
    assert made.scale.dtype == torch.float32
    assert made.prepare(images()).is_contiguous(memory_format=torch.channels_last)


# MEAL V2's recipes

RECIPES = sorted((Path(limbeck.__file__).parent / "recipes").glob("mealv2_*.toml"))


def test_there_is_a_recipe_for_each_row_of_meal_v2s_table():
    assert len(RECIPES) == 8


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_distill_takes_and_pins_what_it_names(path):
    settings_of = [hint for hint in get_type_hints(distill).values() if is_dataclass(hint)]
    known = {*inspect.signature(distill).parameters, *(field.name for one in settings_of for field in fields(one))}
    settings = tomllib.loads(path.read_text())
    assert settings.keys() - {"verb"} <= known
    assert zoo.ZOO[settings["student"]].role == "student"
    assert {zoo.ZOO[teacher].role for teacher in settings["teachers"]} == {"teacher"}
    assert (settings["weight_decay"], settings["hard_weight"], settings["temperature"]) == (0, 0, 1)


def test_a_hub_that_goes_away_is_not_taken_for_one_without_the_file(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def gone(*_, **__):
        raise LocalEntryNotFoundError("check your connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", gone)
    monkeypatch.setattr("limbeck.nets.fetch.reach", lambda _: None)
    with pytest.raises(InputError, match=r"could not fetch me/net from the hub \(check your connection\)"):
        zoo.load("hf-hub:me/net")
