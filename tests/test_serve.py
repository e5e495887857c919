"""The page's server: what predict says, whatever is sent; nobody else's pages may ask; one bad model stops no other."""

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fpga_programs import random_program
from PIL import Image
from serving import CLASSES, encoded, picture, save_net, save_program, served
from tools import need

from limbeck import cli
from limbeck.c import artefact, running
from limbeck.c.write import write
from limbeck.errors import InputError
from limbeck.fpga import simulate
from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan
from limbeck.images.domains import on_photos, packaged_photos
from limbeck.images.images import formats
from limbeck.integer.file import load
from limbeck.integer.program import run
from limbeck.nets import onnx, zoo
from limbeck.ui import picture as pictures
from limbeck.ui import server
from limbeck.ui.app import Page
from limbeck.ui.opened import opened
from limbeck.ui.shift import PIECES, SLIDERS, Backgrounds, Shift, read_shift, shifted
from limbeck.verbs.predict import predict
from limbeck.verbs.serve import serve


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    grey = save_net(folder / "grey")
    colour = save_net(folder / "colour", channels=3, size=40, seed=1)
    onnx.export(zoo.load(colour).eval(), folder / "x.onnx")
    return grey, colour, save_program(grey, folder / "x.program"), str(folder / "x.onnx")


@pytest.mark.slow
def test_a_folder_stands_for_the_models_in_it(models):
    folder = Path(models[0]).parent
    (folder / "begun").mkdir(exist_ok=True)  # no model of ours
    with opened((str(folder),), data="digits:optdigits") as page:
        assert [voice.name for voice in page.voices] == sorted(models)


@pytest.fixture(scope="module")
def page(models):
    with opened(models, data="digits:optdigits") as page:
        yield page


@pytest.fixture(scope="module")
def port(page):
    with served(page) as port:
        yield port


def ask(port, method, path, body=None, **headers):
    """Return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, content.decode()


def answers(port, body=None, **words):
    """Return what is said of the picture, and the answers in the order of the models."""
    status, _, text = ask(port, "POST", f"/answers?{urllib.parse.urlencode(words)}", body)
    assert status == 200, text
    first, *rest = map(json.loads, text.splitlines())
    assert [line["voice"] for line in rest] == list(range(len(rest)))
    return first, rest


def refusal(port, method, path, body=None, **headers):
    """Return status and sentence of an answer that is a refusal, in JSON and for people."""
    status, found, text = ask(port, method, path, body, **headers)
    assert found["content-type"] == "application/json"
    assert list(json.loads(text)) == ["error"]
    assert "Traceback" not in text
    return status, json.loads(text)["error"]


# ---- what is answered -------------------------------------------------------------------------------------


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return encoded(picture(300, 130, 3), "JPEG", quality=90, exif=exif)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("small.png", encoded(picture(28, 28))),
        ("large.png", encoded(picture(150, 120, 3))),
        ("turned.jpg", turned()),
        ("alpha.webp", encoded(picture(120, 140, 4), "WEBP", lossless=True)),
        ("grey.tif", encoded(picture(64, 99), "TIFF")),
        ("moving.gif", encoded(picture(64, 70), "GIF")),
    ],
)
def test_an_image_as_it_is_gets_the_answers_of_predict(models, port, tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    _, found = answers(port, data)
    assert len(found) == len(models)
    for model, answer in zip(models, found, strict=True):
        ((_, labels),) = predict(model, (str(tmp_path / name),), top=5).named
        said = [(place["class"], place["probability"]) for place in answer["top"]]
        assert [name for name, _ in said] == [label.name for label in labels]
        # one image is answered alone here and there, but a resized one may be rounded otherwise by a fused net
        assert [p for _, p in said] == pytest.approx([label.probability for label in labels], abs=1e-5)
        assert answer["milliseconds"] > 0


def test_the_page_is_told_what_it_builds_itself_from(models, port):
    status, _, text = ask(port, "GET", "/about")
    about = json.loads(text)
    assert status == 200
    assert [voice["name"] for voice in about["voices"]] == list(models)
    assert "28 px grey" in about["voices"][0]["detail"]
    assert [voice["kind"] for voice in about["voices"][2:]] == [
        "integer Program, run by numpy", "ONNX, run by onnxruntime",
    ]  # fmt: skip
    assert list(about["sliders"]) == list(SLIDERS)
    assert (about["drawing"], about["samples"], about["notes"]) == (28, 300, [])


def test_a_held_out_image_comes_with_its_label(page, port):
    place = 17
    first, found = answers(port, sample=place)
    assert first["label"] == page.source.classes[int(page.source.labels[place])]
    assert first["name"] == page.source.keys[place]
    _, sent = answers(port, encoded(page.source.read(place)))
    assert [line["top"] for line in found] == [line["top"] for line in sent]


def test_without_data_the_first_runs_own_images_are_shown(models, tmp_path):
    for verb, key in (("teach", "data"), ("adapt", "target")):
        shutil.copytree(models[0], tmp_path / verb)
        (tmp_path / verb / "recipe.toml").write_text(f'verb = "{verb}"\n{key} = "digits:optdigits"\n')
        with opened((models[1], str(tmp_path / verb))) as found:
            assert found.source.spec == "digits:optdigits"
            assert found.source.split == "val"
    (tmp_path / "teach" / "recipe.toml").write_text('verb = "teach"\ndata = "gone/"\n')
    with opened((str(tmp_path / "teach"),)) as found:
        assert found.source is None


def test_a_shift_changes_what_is_seen_and_said(port):
    data = encoded(picture(28, 28))
    plain, before = answers(port, data)
    grey, flat = answers(port, data, contrast=0)
    assert grey["seen"] != plain["seen"]
    assert grey["given"] == plain["given"]
    assert [line["top"] for line in before] != [line["top"] for line in flat]
    assert answers(port, encoded(picture(28, 28, seed=1)), contrast=0)[1][0]["top"] == flat[0]["top"]


def test_many_ask_at_once_and_all_get_their_own(port):
    bodies = [encoded(picture(28, 28, seed=seed)) for seed in range(4)]
    alone = [[line["top"] for line in answers(port, body)[1]] for body in bodies]
    together = [None] * len(bodies)

    def one(place):
        together[place] = [line["top"] for line in answers(port, bodies[place])[1]]

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_who_leaves_half_way_disturbs_nobody(port, caplog):
    body = encoded(picture(28, 28))
    for sent in (body[:20], body):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /answers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + sent)
    assert len(answers(port, body)[1]) == 4
    assert not caplog.records


# ---- what is refused --------------------------------------------------------------------------------------


def bomb(side):
    """Return a PNG that says that it has side x side pixels."""
    header = b"IHDR" + struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + b"\0\0\0\x09IDAT" + bytes(13)


whole = encoded(picture(120, 120, 3))
flipped = bytearray(whole)
flipped[200] ^= 255  # its end is as it should be, so decoding alone finds this


UNUSABLE = {
    "nothing": (b"", 400, "no image was sent"),
    "text": (b"not an image", 400, f"not an image of a known kind ({', '.join(formats())}); choose another"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "not an image of a known kind"),
    "cut off": (whole[:900], 400, "the image can't be decoded: truncated; choose another"),
    "broken inside": (bytes(flipped), 400, "the image can't be decoded: "),
    "floats": (encoded(Image.new("F", (9, 9)), "TIFF"), 400, "floating-point pixels"),
    "a long strip": (encoded(Image.new("L", (33000, 2))), 400, "a side over "),
    "many pixels": (bomb(8000), 413, "the image has more than 50,000,000 pixels"),
    "a small bomb": (bomb(12000), 413, "more than 50,000,000 pixels"),
    "a bomb": (bomb(60000), 413, "more than 50,000,000 pixels"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_usable_image_is_refused_in_a_sentence(port, name):
    body, status, words = UNUSABLE[name]
    found, sentence = refusal(port, "POST", "/answers", body)
    assert found == status
    assert words in sentence
    assert "object at" not in sentence
    assert "limbeck data" not in sentence  # is for folders


def test_a_body_over_the_limit_is_refused_before_it_is_read(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /answers HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        for _ in range(pictures.LARGEST_BYTES // (1 << 20) + 1):
            connection.sendall(chunk)
        reply = http.client.HTTPResponse(connection)
        reply.begin()  # the body goes on, but nobody waits for its end
        assert reply.status == 413
        assert "the image has more than 10,000,000 bytes" in json.loads(reply.read())["error"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("noise=9", "noise is '9'; it must lie from 0 to 0.5"),
        ("noise=nan", "noise is 'nan'; it must lie"),
        ("blur=-1", "blur is '-1'; it must lie"),
        ("contrast=much", "contrast is 'much'; it must lie from 0 to 2"),
        ("draw=-1", "draw is '-1'; it must be a number"),
        ("draw=1234567890", "draw is '1234567890'; it must be a number of up to 9 digits"),
        ("sample=300", "there is no image 300; there are 300"),
        ("sample=../../etc/passwd", "sample is '../../etc/passwd'; it must be a number"),
        ("sample=%C2%B2", "sample is '²'; it must be a number"),
    ],
)
def test_words_that_make_no_sense_are_refused_in_a_sentence(port, query, words):
    status, sentence = refusal(port, "POST", f"/answers?{query}", whole)
    assert status == 400
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/answers", 405),
        ("POST", "/", 405),
        ("GET", "/favicon.ico", 404),
        ("GET", "/../app.py", 404),
        ("GET", "/..%2fapp.py", 404),
        ("GET", "/static/page.js", 404),
        ("GET", "//etc/passwd", 404),
    ],
)
def test_there_is_nothing_else_to_get(port, method, path, status):
    assert refusal(port, method, path)[0] == status


@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8000", True),
        ("192.168.0.7:8000", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_who_calls_the_page_by_its_own_name_is_answered(port, host, welcome):
    status, _, text = ask(port, "GET", "/about", Host=host)
    assert (status == 200) == welcome
    if not welcome:
        assert status in (400, 403)  # uvicorn refuses what is no host at all
        assert "voices" not in text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_other_pages_cannot_ask(port, origin):
    status, sentence = refusal(port, "POST", "/answers", whole, Origin=origin)
    assert status == 403
    assert "its own address" in sentence
    status, _, _ = ask(port, "POST", "/answers", whole, Origin=f"http://127.0.0.1:{port}")
    assert status == 200


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/about", "/nothing"])
def test_nothing_comes_from_elsewhere_and_nothing_goes_there(port, path):
    _, headers, text = ask(port, "GET", path)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert not [name for name in headers if name.startswith("access-control-")]
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"(?:src|href)=|url\(|https?://", re.sub(r'(?:src|href)="(?:page\.\w+|data:,)"', "", text))


# ---- models that fail -------------------------------------------------------------------------------------


class Glass(torch.nn.Module):
    """Breaks at what is bright."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixels):
        if pixels.max() > 0:
            raise RuntimeError("shattered\nTraceback")
        return self.net(pixels)


def test_a_model_that_fails_on_an_image_stops_no_other(page):
    first = page.voices[0]
    glass = replace(first, name="glass", net=zoo.load(first.name))
    glass.net.net = Glass(glass.net.net)
    with served(Page((glass, *page.voices), page.reader)) as port:
        for body, breaks in (
            (encoded(Image.new("L", (28, 28), 255)), True),
            (encoded(Image.new("L", (28, 28))), False),
        ):
            _, (broken, *others) = answers(port, body)
            assert ("error" in broken) == breaks
            assert not any("error" in other for other in others)
            if breaks:
                assert broken["error"] == "glass failed: shattered"


def test_a_net_of_broken_weights_is_refused_at_once(tmp_path):
    net = zoo.load(save_net(tmp_path / "net"))
    with torch.no_grad():
        net.net.get_classifier().weight.fill_(3e38)  # finite, and its sums are not
    zoo.save(net, tmp_path / "net")
    with (
        pytest.raises(InputError, match="net failed: it outputs NaN or infinity"),
        opened((str(tmp_path / "net"),)),
    ):
        pass


# ---- the shift --------------------------------------------------------------------------------------------


def view(seed=0, size=28):
    return np.random.default_rng(seed).integers(0, 256, (3, size, size), dtype=np.uint8)


@pytest.fixture(scope="module")
def photos():
    return packaged_photos("test")


def test_every_slider_moves_a_part_of_the_shift():
    assert [*SLIDERS, "draw"] == [field.name for field in fields(Shift)]
    assert read_shift({}) == Shift()
    assert Shift().neutral
    for name, slider in SLIDERS.items():
        for end in {slider.low, slider.high} - {slider.neutral}:
            shift = read_shift({name: str(end)})
            assert getattr(shift, name) == end
            assert not shift.neutral
            assert (shifted(view(), shift, Backgrounds([view(1, 400).transpose(1, 2, 0)])) != view()).any()


def test_a_neutral_shift_leaves_every_pixel():
    assert (shifted(view(), Shift(draw=7), None) == view()).all()


def test_the_whole_background_is_that_of_mnist_m(photos):
    digits = np.random.default_rng(0).integers(0, 256, (PIECES, 28, 28), dtype=np.uint8)
    wanted = on_photos(digits, photos, "test")
    backgrounds = Backgrounds(photos)
    for draw, digit in enumerate(digits):
        grey = np.repeat(digit[None], 3, axis=0)
        assert (shifted(grey, Shift(background=1, draw=draw), backgrounds) == wanted[draw]).all()


def test_backgrounds_reach_nets_of_any_size(photos):
    black = np.zeros((3, 512, 512), np.uint8)
    assert shifted(black, Shift(background=1), Backgrounds(photos)).std() > 0
    assert (shifted(black, Shift(background=1), None) == black).all()


def test_each_part_does_what_it_says():
    image = np.full((3, 200, 200), 100, np.uint8)
    assert (shifted(image, Shift(contrast=2), None) == 72).all()  # 127.5 - 2 x 27.5 = 72.5, to even
    assert (shifted(image, Shift(brightness=0.2), None) == 151).all()
    assert (shifted(image, Shift(brightness=-0.5), None) == 0).all()
    noisy = shifted(image, Shift(noise=0.1), None)
    assert noisy.astype(float).std() == pytest.approx(25.5, rel=0.02)  # 40,000 draws: 3 sigma are 1.1%
    assert (noisy[0] == noisy[2]).all()
    assert (noisy == shifted(image, Shift(noise=0.1), None)).all()
    assert (noisy != shifted(image, Shift(noise=0.1, draw=1), None)).any()
    edge = image.copy()
    edge[:, :, 100:] = 200
    blurred = shifted(edge, Shift(blur=0.02), None)
    assert np.abs(np.diff(blurred.astype(int))).max() < 30
    assert blurred.mean() == pytest.approx(150, abs=1)


# ---- designs ----------------------------------------------------------------------------------------------


def test_a_design_is_left_out_with_a_sentence_where_it_cannot_be_simulated(models, tmp_path, monkeypatch):
    (tmp_path / "design.json").write_text('{"version": 1, "identity": 0, "part": ""}')
    monkeypatch.setattr(simulate, "available", lambda: "verilator not found; apt-get install verilator g++ make")
    with opened((models[0], str(tmp_path))) as page:
        assert [voice.name for voice in page.voices] == [models[0]]
        assert page.notes == (
            f"{tmp_path} is left out: it cannot be simulated, verilator not found; apt-get install verilator g++ make",
        )
    with pytest.raises(InputError, match=r"nothing is left to serve: .* is left out"), opened((str(tmp_path),)):
        pass


def test_c_and_its_program_predict_alike_side_by_side(models, tmp_path, monkeypatch):
    need("gcc")
    program = load(models[2])
    artefact.save(program, write(program, "x"), tmp_path / "x.c")
    with opened((models[2], str(tmp_path / "x.c"))) as page, served(page) as port:
        assert [voice.kind for voice in page.voices] == ["integer Program, run by numpy", "C, compiled here"]
        _, (golden, compiled) = answers(port, encoded(picture(28, 28)))
        assert compiled["top"] == golden["top"]
    monkeypatch.setattr(running, "compiler", lambda: None)
    with opened((models[0], str(tmp_path))) as page:
        assert page.notes == (f"{tmp_path / 'x.c'} is left out: it cannot be compiled, there is no C compiler; "
                              "apt-get install gcc",)  # fmt: skip


@pytest.mark.slow
def test_simulated_hardware_says_what_its_program_does_and_survives_its_end(tmp_path):
    need("verilator", "g++", "make")
    program = random_program(1, (3, 9, 9), 5)
    emit(plan(program, "xczu7ev", lanes=Lanes(2, 4, 4)), program, tmp_path / "design")
    body = encoded(picture(9, 9, 3))
    design, like = str(tmp_path / "design"), str(tmp_path / "design" / "net.program")
    assert load(like).classes == program.classes
    with opened((design, like)) as page, served(page) as port:
        _, (simulated, golden) = answers(port, body)
        assert simulated["top"] == golden["top"]
        assert re.match(r"[\d,]+ cycles per image", page.voices[0].detail)
        hardware = page.voices[0].net.net.answer
        hardware.start().port._process.kill()
        _, (broken, golden_again) = answers(port, body)
        assert "begins anew with the next image" in broken["error"]
        assert golden_again["top"] == golden["top"]
        assert answers(port, body)[1][0]["top"] == golden["top"]
        image = np.zeros((1, 3, 9, 9), np.uint8)
        assert hardware(image) == pytest.approx(run(program, image) * program.scale)
        process = hardware.start().port._process
    assert process.poll() is not None  # it ends with the page


# ---- the command ------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_in_a_sentence(models, port, capsys):
    assert cli.main(["serve", models[0], "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert f"cannot serve on 127.0.0.1, port {port}: it is in use; choose another --port, or 0 for a free one" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["MODEL", "--port", "70000"], "--port is 70000; it must lie from 0 to 65535"),
        (["MODEL", "--port", "0", "--host", "203.0.113.1"], "cannot serve on 203.0.113.1, port 0: "),
        (["--port", "0"], "no model is given"),
        (["missing", "--port", "0"], "missing"),
        (["MODEL", "--port", "0", "--data", "digits:minst"], "did you mean digits:mnist"),
    ],
)
def test_bad_arguments_end_with_2_and_a_sentence(models, capsys, arguments, words):
    assert cli.main(["serve", *(models[0] if word == "MODEL" else word for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_a_missing_package_is_named_with_its_remedy(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r"needs the package uvicorn: pip install 'limbeck\[ui\]'"):
        serve(models[:1], port=0)


@pytest.mark.parametrize(
    ("host", "url", "warned"),
    [
        ("127.0.0.1", "http://127.0.0.1:", False),
        ("localhost", "http://localhost:", False),
        ("0.0.0.0", "http://127.0.0.1:", True),
    ],
)
def test_the_address_is_told_and_with_an_open_one_a_warning(models, monkeypatch, host, url, warned):
    class Ended:
        def run(self, sockets):
            assert sockets[0].getsockname()[1] > 0

    monkeypatch.setattr(server, "made", lambda app: Ended())
    told = []
    found = serve(models[:1], port=0, host=host, tell=lambda event, values: told.append(values["text"]))
    assert found.url.startswith(url)
    assert told[-1] == f"{found.url}  (Ctrl-C ends it)"
    assert any("there is no login" in text for text in told) == warned
    assert found.to_json() == {"url": found.url, "models": models[:1], "pictures": 0}


def test_connections_without_a_request_are_given_up(page, monkeypatch):
    """More of them than the page takes at once keep nobody out for long."""
    monkeypatch.setattr(server, "PATIENCE", 0.5)
    with served(page) as port, contextlib.ExitStack() as held:
        for _ in range(70):
            half = held.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert half.recv(1) in (b"", b"H")  # closed, or told that it is one too many
        time.sleep(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200


@pytest.mark.slow
def test_ctrl_c_ends_the_command_well(models):
    command = [sys.executable, "-m", "limbeck", "serve", models[0], "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        port = 0
        while not port:
            line = process.stderr.readline()
            assert line, "it ended early"
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            port = int(found[1]) if found else 0
        assert answers(port, encoded(picture(28, 28)))[1][0]["top"][0]["class"] in CLASSES
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1].removeprefix("--result "))["pictures"] == 1
    assert err == ""
