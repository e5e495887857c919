"""Text–image models: random tiny ones in open_clip's own format, through the real path."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tools import need

from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.nets import fetch, zeroshot, zoo
from limbeck.training.zeroshot import even, look, read_classes

need("open_clip")
import open_clip  # noqa: E402
import safetensors.torch  # noqa: E402

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
SIGLIP = {
    "embed_dim": 192, "init_logit_bias": -10, "custom_text": True,
    "vision_cfg": {
        "image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "none",
    },
    "text_cfg": {**TEXT, "vocab_size": 16, "hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"},
                 "no_causal_mask": True, "pool_type": "last"},
}  # fmt: skip
CLASSES = ("cat", "dog", "fire truck")


def saved(folder, config=None, *, seen=None, suffix="safetensors", seed=0):
    """Write a text–image model of random weights as open_clip saves for the hub; return it."""
    torch.manual_seed(seed)
    config = config or {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"}).eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    folder.mkdir(exist_ok=True)
    seen = seen or {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": seen}))
    if suffix == "safetensors":
        safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    else:
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    return folder, saved(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("photos") / "heap", np.random.default_rng(0)
    folder.mkdir()
    for i in range(12):
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def named(clip, out, *more, classes=CLASSES):
    return main(["zero-shot", f"local-dir:{clip[0]}", "--classes", *classes, "--out", str(out), "--json", *more])


def test_probabilities_are_those_of_open_clip_itself(clip):
    folder, model = clip
    found = zeroshot.load(f"local-dir:{folder}")
    made = zeroshot.zero_shot(found, CLASSES, [(name,) for name in CLASSES], found.templates).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    with torch.no_grad():
        texts = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, open_clip.OPENAI_IMAGENET_TEMPLATES)
        cosines = model.encode_image((images / 255 - mean) / std, normalize=True) @ texts
        expected = (model.logit_scale.exp() * cosines).softmax(1)
        assert len(found.templates) == 80
        assert (made(images).softmax(1) - expected).abs().max() < 1e-5  # float32 sums in another order
        assert expected.std() > 0.01


def test_each_model_has_its_own_temperature_and_comes_back_from_its_run(clip, tmp_path):
    images = torch.randint(0, 256, (4, 3, 50, 50), dtype=torch.uint8)
    assert named(clip, tmp_path / "one", "--templates", "a {}") == 0
    assert named(clip, tmp_path / "four", "--templates", "a {}", "--temperature", "4") == 0
    one, four = (zoo.load(str(tmp_path / name)).eval() for name in ("one", "four"))
    assert one.classes == CLASSES
    assert (one.input.size, one.input.interpolation, one.input.mean) == (32, "bicubic", (0.4, 0.5, 0.6))
    with torch.no_grad():
        assert torch.allclose(one(images), 4 * four(images), atol=1e-5)  # sums in another order
        assert one(images).std() > 0.01


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_siglip_of_timm_and_a_tokenizer_of_hugging_face_is_loaded(tmp_path, suffix):
    need("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = saved(tmp_path / "siglip", SIGLIP, suffix=suffix)
    words = {word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(tmp_path / "siglip")
    found = zeroshot.load(f"local-dir:{tmp_path / 'siglip'}")
    made = zeroshot.zero_shot(found, ("cat", "dog"), [("cat",), ("dog",)], ("a photo of {}",)).eval()
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    tokens[:, :4] = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]])
    with torch.no_grad():
        expected = (
            model.encode_image(made.prepare(images), normalize=True) @ model.encode_text(tokens, normalize=True).T
        )
        expected = (model.logit_scale.exp() * expected + model.logit_bias).softmax(1)
        assert (made(images).softmax(1) - expected).abs().max() < 1e-5  # sums in another order


@pytest.mark.slow
def test_photos_and_names_make_a_student(clip, photos, tmp_path, capsys):
    runs = {name: str(tmp_path / name) for name in ("a", "b", "labels", "student", "adapted", "report.html")}
    assert named(clip, runs["a"], "--data", str(photos)) == 0
    assert '"images": 12' in capsys.readouterr().out
    assert named(clip, runs["b"], "--data", str(photos), "--prior", "equal", "--temperature", "2") == 0
    shares = json.loads(capsys.readouterr().out.rpartition("--result ")[2])["look"]["shares"]
    assert shares == pytest.approx([1 / 3] * 3, abs=1e-5)  # float32 sums
    commands = [
        f"label --data {photos} --teachers {runs['a']} {runs['b']} --views 2 --size 32 --out {runs['labels']}",
        f"verify-labels {runs['labels']} --data {photos} --teachers {runs['a']} {runs['b']}",
        f"distill --data {photos} --student resnet8 --labels {runs['labels']} --size 32 --epochs 1 --batch 4 "
        f"--out {runs['student']}",
        f"distill --data {photos} --student resnet8 --teachers {runs['a']} --size 32 --epochs 1 --batch 4 "
        f"--out {tmp_path / 'live'}",
        f"predict {runs['a']} {photos}/0.png",
        f"info {runs['a']}",
        f"adapt {runs['a']} --source-free --target {photos} --method norm --batch 4 --out {runs['adapted']}",
        f"report {runs['a']} {runs['student']} --no-latency --out {runs['report.html']}",
    ]
    for command in commands:
        assert main([*command.split(), "--json"]) == 0, capsys.readouterr().err
    assert zoo.load(runs["student"]).classes == CLASSES
    again = str(tmp_path / "again")
    assert main(["zero-shot", "-c", f"{runs['b']}/recipe.toml", "--out", again, "--json"]) == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


# ---- classes and their shares -----------------------------------------------------------------------------


def test_classes_come_from_words_a_file_or_folders(tmp_path):
    assert read_classes(["cat", "fire_truck"]) == (("cat", "fire_truck"), (("cat",), ("fire truck",)))
    (tmp_path / "names.csv").write_text('cat, tabby, "cat, sleeping"\n\ndog\n')
    assert read_classes([str(tmp_path / "names.csv")]) == (("cat", "dog"), (("tabby", "cat, sleeping"), ("dog",)))
    for name in ("b", "a"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "folders" / name / "x.png")
        Image.new("RGB", (4, 4)).save(tmp_path / "folders" / name / "y.png")
    assert read_classes([str(tmp_path / "folders")])[0] == ("a", "b")
    with pytest.raises(InputError, match="'cat' more than once"):
        read_classes(["cat", "dog", "cat"])
    with pytest.raises(InputError, match="names 1 class"):
        read_classes(["cat"])


def test_evening_out_makes_mean_probabilities_equal_and_moves_nothing_that_is_even():
    logits = 3 * torch.randn(500, 7) + torch.arange(7.0)
    bias = even(logits)
    shares = (logits + bias).double().softmax(1).mean(0)
    assert (shares - 1 / 7).abs().max() < 1e-5  # float32
    assert even(logits + bias).abs().max() < 1e-4
    assert even(torch.tensor([[0.0, -1e4]] * 3)).isfinite().all()


def test_a_look_counts_predictions_and_names_what_is_unsure_and_mixed_up():
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    found = look(probabilities.clamp_min(1e-9).log(), ("cat", "dog", "bus"), ("a", "b", "c"))
    assert found.predicted == (2, 1, 0)
    assert [name for name, _ in found.least_sure] == ["b", "c", "a"]
    assert found.mixed_up[0] == ("cat", "dog", pytest.approx((0.1 + 0.4 + 0.1) / 3))
    assert found.confidence == pytest.approx((0.9 + 0.5 + 0.8) / 3)


# ---- what is refused --------------------------------------------------------------------------------------


def test_without_the_extra_a_sentence_says_what_to_install(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert named(clip, tmp_path / "out") == 2
    assert "pip install 'limbeck[clip]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_network_a_sentence_says_what_to_bring(tmp_path, monkeypatch):
    def unreachable(url):
        raise OSError("no route")

    monkeypatch.setattr(fetch, "reach", unreachable)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="give ViT-B-32/laion2b_s34b_b79k@FILE"):
        zeroshot.load("ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(InputError, match="give local-dir:FOLDER"):
        zeroshot.load("hf-hub:nobody/nothing")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vision_cfg": {**VISION, "timm_model_name": "hf-hub:a/b"}}, "timm does not know: 'hf-hub:a/b'"),
        ({"vision_cfg": {**VISION, "strange": 1}}, "described otherwise"),
        ({"vision_cfg": {**VISION, "width": 10**9}}, "neither numbers up to"),
        ({"text_cfg": {**TEXT, "tokenizer_kwargs": {"trust_remote_code": True}}}, "tokenizer_kwargs"),
        ({"multimodal_cfg": {}}, "CoCa"),
        ({"embed_dim": 16}, "was not loaded"),
    ],
)
def test_a_strangers_description_is_refused(tmp_path, change, sentence):
    saved(tmp_path / "tiny")
    path = tmp_path / "tiny" / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=sentence):
        zeroshot.load(f"local-dir:{tmp_path / 'tiny'}")


class _Evil:
    def __reduce__(self):
        return (print, ("ran",))


def test_nothing_in_a_weight_file_runs(tmp_path, capsys):
    saved(tmp_path / "tiny", suffix="bin")
    torch.save({"state_dict": _Evil()}, tmp_path / "tiny/open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="was not loaded as local-dir:"):
        zeroshot.load(f"local-dir:{tmp_path / 'tiny'}")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--templates", "a photo"], "has no {}"),
        (["--temperature", "0"], "give more than 0"),
        (["--prior", "equal"], "needs --data"),
    ],
)
def test_flags_that_say_nothing_are_refused(clip, tmp_path, capsys, more, sentence):
    assert named(clip, tmp_path / "out", *more) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("ViT-B-23/openai", "did you mean ViT-B-32"),
        ("ViT-B-32", "choose ViT-B-32/TAG of openai"),
        ("ViT-B-32/nothing", "choose ViT-B-32/TAG of openai"),
        ("local-dir:/nowhere", "holds no open_clip_config.json"),
        ("ViT-B-32@/nowhere.txt", "is no weight file"),
        ("ViT-B-32@/nowhere.pt", "is no weight file"),
    ],
)
def test_specs_that_name_nothing_are_refused(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        zeroshot.load(spec)
