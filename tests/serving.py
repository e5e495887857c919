"""A page of small models, served to tests on a free port by a thread."""

import contextlib
import io
import threading

import numpy as np
import torch
from PIL import Image

from limbeck.integer.file import save
from limbeck.integer.lower import lower
from limbeck.nets import zoo
from limbeck.ui.app import app
from limbeck.ui.server import listen, made

CLASSES = ("cat", "dog", "owl", "cow", "hen", "pig")


def save_net(folder, *, channels=1, size=28, seed=0):
    """Save a random but decided net, crop_pct 0.8, in `folder`; return its name."""
    torch.manual_seed(seed)
    net = zoo.create("resnet8", classes=CLASSES, channels=channels, size=size, arguments={"width": 4})
    with torch.no_grad():
        net.net.get_classifier().weight.mul_(20)
    net.input = type(net.input)(**{**vars(net.input), "crop_pct": 0.8})
    zoo.save(net, folder)
    return str(folder)


def save_program(net, path):
    """Lower the run `net` to a Program in the file `path`; return its name."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 1, 28, 28), dtype=np.uint8))
    save(lower(zoo.load(net).eval(), images), path)
    return str(path)


def picture(*shape, seed=0):
    """Return smooth random pixels."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, *shape[2:]), dtype=np.uint8)
    return Image.fromarray(small).resize(shape[1::-1], Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@contextlib.contextmanager
def served(page):
    """Serve the page; yield its port."""
    with listen("127.0.0.1", 0) as socket:
        server = made(app(page))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield socket.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
