"""A pushed run loads in limbeck and in timm with the run's logits, says what it is, and arrives whole or not at all."""

import base64
import json
import re
import shutil
import threading
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
import yaml

import limbeck
from limbeck import cli, runs
from limbeck.artefacts import repository
from limbeck.errors import InputError, VerificationError
from limbeck.nets import zoo
from limbeck.nets.classifier import Lineage
from limbeck.verbs.push import push

pytestmark = pytest.mark.slow

DIGITS = "digits:optdigits"
SHORT = limbeck.Training(epochs=1, limit=200, batch=50)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """Return a run of distill: a grey net of limbeck's own with arguments, and a teacher."""
    place = tmp_path_factory.mktemp("runs")
    teacher, student = str(place / "t"), str(place / "s")
    limbeck.teach(data=DIGITS, model="resnet8", arguments=("width=4",), out=teacher, training=SHORT)
    limbeck.distill(
        data=DIGITS, student="dsodenet20", arguments=("width=4", "steps=[2,1,1]"), teachers=(teacher,), out=student,
        weak_teachers=True,
        training=SHORT,
    )  # fmt: skip
    return student


def made(folder: Path, name: str, *, classes=("cat", "dog", "eel"), channels=3, lineage=None, **how) -> Path:
    """Write a net with random weights as a run does."""
    net = zoo.create(name, classes=classes, channels=channels, **how)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    net.lineage = lineage or net.lineage
    zoo.save(net, folder)
    return folder


def noise(net) -> torch.Tensor:
    seen = net.input
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, seen.channels, seen.size, seen.size), dtype=torch.uint8, generator=generator)


def logits(net) -> torch.Tensor:
    with torch.inference_mode():
        return net.eval()(noise(net))


# ---- a folder ---------------------------------------------------------------------------------------------


def test_what_was_pushed_is_as_good_as_the_run(distilled, tmp_path):
    to = f"local-dir:{tmp_path / 'pub'}"
    pushed = push(distilled, to=to)
    assert pushed.timm
    assert set(pushed.files) >= {"README.md", "config.json", "model.safetensors", "recipe.toml", "results.json"}
    assert pushed.files == {path.name: path.stat().st_size for path in (tmp_path / "pub").iterdir()}
    before, after, folder = (limbeck.evaluate(spec, data=DIGITS) for spec in (distilled, to, str(tmp_path / "pub")))
    assert before.evaluation.confusion.tolist() == after.evaluation.confusion.tolist()
    assert before.evaluation.top1 == after.evaluation.top1 == folder.evaluation.top1
    assert zoo.load(str(tmp_path / "pub")).lineage == zoo.load(distilled).lineage  # a pushed run is a run


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("test_resnet", {"size": 64}),
        ("test_resnet", {"channels": 1, "size": 48}),
        ("test_vit", {"size": 64}),  # its size is an argument
        ("test_efficientnet", {"classes": ("1", "0")}),
        ("dsodenet20", {"arguments": {"width": 4, "stem": "3x3/2"}, "mean": (0.1, 0.2, 0.3)}),
        ("rodenet3_20", {"channels": 1, "arguments": {"width": 4, "solver": "midpoint"}, "size": 20}),
    ],
)
def test_timm_and_limbeck_load_it_with_the_runs_logits(name, how, tmp_path):
    net = zoo.load(str(made(tmp_path / "run", name, **how)))
    to = f"local-dir:{tmp_path / 'pub'}"
    assert push(str(tmp_path / "run"), to=to).timm
    again = zoo.load(to)
    assert (again.classes, again.input, again.arguments) == (net.classes, net.input, net.arguments)
    assert torch.allclose(logits(again), logits(net), rtol=0, atol=1e-5)  # sums in another order
    theirs = timm.create_model(to, pretrained=True).eval()
    with torch.inference_mode():
        assert torch.allclose(theirs(net.prepare(noise(net))), logits(net), rtol=0, atol=1e-5)
    assert theirs.pretrained_cfg["label_names"] == list(net.classes)
    seen = timm.data.resolve_model_data_config(theirs)
    assert tuple(seen["input_size"]) == (net.input.channels, net.input.size, net.input.size)
    assert tuple(seen["mean"]) == net.input.mean


def test_what_timm_can_not_load_limbeck_does(tmp_path):
    net = zoo.load(str(made(tmp_path / "run", "tv/squeezenet1_1", size=64)))
    to, notes = f"local-dir:{tmp_path / 'pub'}", []
    pushed = push(str(tmp_path / "run"), to=to, tell=lambda event, values: notes.append(values["text"]))
    assert not pushed.timm
    (note,) = notes
    assert note.startswith("tv/squeezenet1_1 is neither timm's nor limbeck's (torchvision)")
    assert torch.allclose(logits(zoo.load(to)), logits(net), rtol=0, atol=1e-5)
    assert "timm does not load it" in (tmp_path / "pub" / "README.md").read_text()


def test_a_net_that_somebody_made_known_to_timm_is_pushed_too(tmp_path):
    def tiny_of_ours(pretrained=False, num_classes=10, in_chans=3, **timms):
        conv = torch.nn.Conv2d(in_chans, 4, 3)
        return torch.nn.Sequential(
            conv, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, num_classes)
        )

    tiny_of_ours.__module__ = __name__
    timm.models.register_model(tiny_of_ours)
    net = zoo.load(str(made(tmp_path / "run", "tiny_of_ours", size=20)))
    to = f"local-dir:{tmp_path / 'pub'}"
    assert not push(str(tmp_path / "run"), to=to).timm
    assert torch.allclose(logits(zoo.load(to)), logits(net), rtol=0, atol=1e-5)


def test_files_beside_go_along(tmp_path):
    (tmp_path / "s.program").write_bytes(b"program")
    made(tmp_path / "run", "test_resnet", size=32)
    push(str(tmp_path / "run"), to=f"local-dir:{tmp_path / 'pub'}", beside=(str(tmp_path / "s.program"),))
    assert (tmp_path / "pub" / "s.program").read_bytes() == b"program"


# ---- the card ---------------------------------------------------------------------------------------------


def test_the_card_has_the_runs_figures_and_lineage(distilled, tmp_path):
    push(distilled, to=f"local-dir:{tmp_path / 'pub'}", licence="cc-by-4.0")
    card = (tmp_path / "pub" / "README.md").read_text()
    results, document = (runs.read_json(Path(distilled) / name) for name in ("results.json", "model.json"))
    assert f"| top-1 | {results['evaluation']['top1']:.2%} |" in card
    assert f"| held-out images | {results['evaluation']['images']} |" in card
    assert document["lineage"]["sha256"] in card
    (teacher,) = document["lineage"]["teachers"]
    assert f"- Teacher (top-1 {results['teachers'][0][1]:.2%}): {teacher['tag']}" in card
    assert teacher["sha256"] in card
    assert "- Began as: dsodenet20, random weights." in card
    assert f"200 images of `{DIGITS}`" in card
    assert "- Seed: 0." in card
    assert f"torch {torch.__version__}" in card
    assert "- Licence of the weights: cc-by-4.0." in card
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "cc-by-4.0", "limbeck", "image-classification",
    )  # fmt: skip


def test_the_cards_python_runs_in_a_folder_beside_it(distilled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    push(distilled, to="local-dir:pub")
    (snippet,) = re.findall(r"```python\n(.*?)```", Path("pub/README.md").read_text(), flags=re.DOTALL)
    found: dict = {}
    exec(compile(snippet, "README.md", "exec"), found)
    (mode,) = re.findall(r"PIL image in mode (\w+)", snippet)
    from PIL import Image

    assert found["model"](found["look"](Image.new(mode, (40, 30))).unsqueeze(0)).shape == (1, 10)


def test_the_card_of_an_adapted_run_tells_before_and_after(tmp_path):
    run = made(tmp_path / "run", "test_resnet", size=32)
    report = {"images": 300, "source_only": 0.5, "adapted": 0.75, "oracle": None}
    runs.write_json(run / "results.json", {"report": report, "teachers": []})
    push(str(run), to=f"local-dir:{tmp_path / 'pub'}")
    card = (tmp_path / "pub" / "README.md").read_text()
    assert "| top-1 before adaptation | 50.00% |\n| top-1 adapted | 75.00% |\n\n" in card
    assert "on the domain that it came from it may have become worse" in card


def test_the_card_names_what_the_net_began_as(tmp_path):
    lineage = Lineage("resnet18.a1_in1k, new head of 3 classes", "ImageNet-1k", "apache-2.0")
    push(str(made(tmp_path / "run", "test_resnet", size=32, lineage=lineage)), to=f"local-dir:{tmp_path / 'pub'}")
    began = r"- Began as: resnet18.a1\_in1k, new head of 3 classes, data ImageNet-1k, licence apache-2.0."
    assert began in (tmp_path / "pub" / "README.md").read_text()


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    push(str(made(tmp_path / "run", "test_resnet", size=32)), to=f"local-dir:{tmp_path / 'pub'}")
    card = (tmp_path / "pub" / "README.md").read_text()
    assert "Not measured" in card
    assert "- Trained on: not known." in card
    assert "- Seed: not known." in card
    assert "none is stated by the publisher" in card
    assert "license" not in yaml.safe_load(card.split("---")[1])


def test_names_of_others_mark_nothing_up_in_the_card(tmp_path):
    evil = "x|y`\n# <script>alert(1)</script>"
    lineage = Lineage(evil, evil, evil, teachers=(Lineage(evil, evil, evil),))
    run = made(tmp_path / "run", "test_resnet", size=32, classes=(evil, "b"), lineage=lineage)
    rows = {evil: {"images": 1, "recall": 0.1}, "b": {"recall": "?"}, "c": 7}
    runs.write_json(run / "results.json", {"evaluation": {"top1": "?", "per_class": rows}, "teachers": [evil]})
    runs.write_json(run / "environment.json", {"data": {"spec": evil}, "versions": {evil: evil}})
    push(str(run), to=f"local-dir:{tmp_path / 'pub'}", licence=evil)
    card = (tmp_path / "pub" / "README.md").read_text()
    body = card.split("\n---\n", 1)[1]
    without_code = re.sub(r"`[^`\n]*`", "", body)
    assert "<script>" not in re.sub(r"\\.", "", without_code)
    assert [line for line in body.splitlines() if line.startswith("# ") and "model(" not in line] == ["# pub"]
    assert "| recall of `x\\|y' # <script>alert(1)</script>` | 10.00% |" in body
    assert yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))["license"] == evil


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "how", "sentence"),
    [
        ("nowhere", {"to": "local-dir:pub"}, "nowhere is not a finished run: no model.json is there"),
        ("run", {"to": "pub"}, "--to pub does not say where; give hf-hub:USER/NAME or local-dir:PATH"),
        ("run", {"to": "local-dir:"}, "--to local-dir: does not say where"),
        ("run", {"to": "hf-hub:net"}, "net names no owner; give hf-hub:USER/net"),
        ("run", {"to": "hf-hub:a/b/c"}, "'a/b/c' can't be a name on the hub"),
        ("run", {"to": "hf-hub:me/net@v1"}, "'me/net@v1' can't be a name on the hub"),
        ("run", {"to": "local-dir:run"}, "--to run is a run and stays as it is; choose another"),
        ("run", {"to": "local-dir:file/pub"}, "file is no folder; choose another"),
        ("run", {"to": "local-dir:pub", "beside": ("no.onnx",)}, "--beside no.onnx is no file"),
        ("run", {"to": "local-dir:pub", "beside": ("run/model.json",)}, "two files named model.json"),
    ],
)
def test_what_can_not_be_pushed_is_said_in_a_sentence_and_leaves_nothing(run, how, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(Path("run"), "test_resnet", size=32)
    Path("file").write_text("")
    with pytest.raises(InputError, match=re.escape(sentence)):
        push(run, **how)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}


def test_a_repository_that_answers_otherwise_is_not_published(tmp_path, monkeypatch):
    made(tmp_path / "run", "test_resnet", size=32)
    real = repository._copied

    def spoilt(source: Path, copy: Path) -> None:
        real(source, copy)
        if copy.name == "model.safetensors":
            net = zoo.load(str(tmp_path / "run"))
            next(net.parameters()).data.mul_(1.01)
            zoo.save(net, copy.parent)

    monkeypatch.setattr(repository, "_copied", spoilt)
    with pytest.raises(VerificationError, match="its logits are not the run's; nothing was pushed"):
        push(str(tmp_path / "run"), to=f"local-dir:{tmp_path / 'pub'}")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


# ---- the hub ----------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a push and a load of small files ask for; `stock` is what was committed."""

    stock: dict[str, dict[str, bytes]]
    commits: list[list[str]]
    tokens: set[str | None]
    broken: str  # a word in the address of requests that are refused

    def log_message(self, *_):
        """Be silent."""

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, value: object, code: int = 200) -> None:
        self.answer(code, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.tokens.add(self.headers.get("Authorization"))
        address = f"http://127.0.0.1:{self.server.server_port}"
        if self.broken and self.broken in self.path:
            return self.say({"error": "You may not write here"}, 403)
        match self.path.removeprefix("/api/").split("/"):
            case ["repos", "create"]:
                asked = json.loads(body)
                self.stock.setdefault(f"{asked['organization']}/{asked['name']}", {})
                return self.say({"url": f"{address}/{asked['organization']}/{asked['name']}"})
            case ["validate-yaml"]:
                return self.say({"errors": [], "warnings": []})
            case ["models", user, name, "preupload", _]:
                files = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
                return self.say({"files": modes})
            case ["models", user, name, "commit", _]:
                lines = [json.loads(line) for line in body.splitlines()]
                files = {row["value"]["path"]: row["value"]["content"] for row in lines if row["key"] == "file"}
                self.stock[f"{user}/{name}"] = {path: base64.b64decode(text) for path, text in files.items()}
                self.commits.append(sorted(files))
                return self.say({"commitUrl": f"{address}/{user}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40})
        return self.say({"error": f"unexpected {self.path}"}, 500)

    def do_GET(self) -> None:
        match self.path.split("?")[0].strip("/").split("/"):
            case [user, name, "resolve", _, file] if file in self.stock.get(f"{user}/{name}", {}):
                data = self.stock[f"{user}/{name}"][file]
                return self.answer(200, data, ETag=f'"{sha1(data).hexdigest()}"', X_Repo_Commit="a" * 40)
            case [_, _, "resolve", *_]:
                return self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit="a" * 40)
            case ["api", *_]:
                return self.say({"error": "There is no such repository"}, 404)
        return self.say({})

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the hub on this machine, asked in place of the real one, with a token for it."""
    kind = type("Stand", (Hub,), {"stock": {}, "commits": [], "tokens": set(), "broken": ""})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    for module in ("constants", "file_download"):  # hubs' clients before 1.0 read the latter
        monkeypatch.setattr(
            f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
            raising=False,
        )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_run_goes_to_the_hub_in_one_commit_and_comes_back(distilled, hub, tmp_path, capsys):
    shutil.copytree(distilled, tmp_path / "s")
    assert cli.main(["push", str(tmp_path / "s"), "--to", "hf-hub:me/net", "--private"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("--result "))
    assert said["to"] == "hf-hub:me/net"
    assert said["address"].endswith("/me/net")
    assert hub.commits == [sorted(said["files"])]
    assert hub.tokens == {"Bearer hf_secret"}
    assert torch.equal(logits(zoo.load("hf-hub:me/net")), logits(zoo.load(distilled)))
    assert "limbeck predict hf-hub:me/net photo.jpg" in hub.stock["me/net"]["README.md"].decode()
    theirs = timm.create_model("hf-hub:me/net", pretrained=True, cache_dir=str(tmp_path / "cache")).eval()
    net = zoo.load(distilled)
    with torch.inference_mode():
        assert torch.allclose(theirs(net.prepare(noise(net))), logits(net), rtol=0, atol=1e-5)


@pytest.mark.parametrize("broken", ["create", "preupload", "commit"])
def test_a_hub_that_says_no_is_quoted_and_nothing_is_there(broken, hub, tmp_path, capsys):
    made(tmp_path / "run", "test_resnet", size=32)
    hub.broken = broken
    assert cli.main(["push", str(tmp_path / "run"), "--to", "hf-hub:me/net"]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("limbeck push: could not push to me/net (")
    assert "403" in sentence
    assert sentence.endswith("push to local-dir:PATH and upload that folder by other means; no file was put there")
    assert hub.stock.get("me/net", {}) == {}
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "cache"}


def test_without_a_token_a_sentence_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    made(tmp_path / "run", "test_resnet", size=32)
    with pytest.raises(InputError, match="the hub wants a token: run hf auth login, or set HF_TOKEN; or push to local"):
        push(str(tmp_path / "run"), to="hf-hub:me/net")


def test_offline_a_sentence_says_so(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    made(tmp_path / "run", "test_resnet", size=32)
    with pytest.raises(InputError, match=r"could not push to me/net \(.*refused.*\); push to local-dir:PATH"):
        push(str(tmp_path / "run"), to="hf-hub:me/net")
    assert hub.stock == {}
