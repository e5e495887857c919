"""How fast is dsODENet-20 on one CPU thread, beside ResNet-20 and MobileNetV3-Small?

    OMP_NUM_THREADS=1 python benchmarks/inference.py             # about 10 minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/inference.py --no-compile

Random weights, grey images of 28 pixels. Runtimes and nets take turns; the figure is CPU time, the median of the
rounds. "256 in pieces" runs 256 images as eight batches of 32, whose maps stay in the cache. A large matrix product
tells what the core can do at most. Prints one table and, last, one JSON line.
"""

import argparse
import io
import json
import statistics
import time
import warnings
from collections.abc import Callable

import onnx
import onnxruntime
import timm
import torch
from torch import Tensor, nn

import limbeck.nets.odenet  # noqa: F401 - registers the family with timm
from limbeck.nets.count import count

NETS = ("dsodenet20", "odenet20", "resnet20", "mobilenetv3_small_100")
SIZE, PIECE = 28, 32
Run = Callable[[Tensor], object]


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nets = {name: net_of(name) for name in NETS}
    runs = {(name, how): run for name, net in nets.items() for how, run in runtimes(net, given.no_compile).items()}
    times = {(key, batch, piece): [] for key in runs for batch, piece in ((1, 1), (256, 256), (256, PIECE))}
    products, product_rate = [], product()
    with torch.inference_mode():
        for each in range(given.rounds + 1):
            products.append(product_rate())
            for (key, batch, piece), found in times.items():
                seconds = measured(runs[key], batch, piece)
                if each:  # the first warms up
                    found.append(seconds)
    peak = statistics.median(products)
    macs = {name: count(net, (1, SIZE, SIZE)).macs for name, net in nets.items()}
    rows = [
        {"net": name, "runtime": how, "batch": batch, "piece": piece, "ms": 1000 * statistics.median(found),
         "share": macs[name] / statistics.median(found) / peak}
        for ((name, how), batch, piece), found in times.items()
    ]  # fmt: skip
    table(rows, macs, peak)


def net_of(name: str) -> nn.Module:
    """Return the net for grey images, judged as it comes, its BatchNorm statistics set by a batch of noise."""
    net = timm.create_model(name, in_chans=1, num_classes=10).train()
    net(torch.randn(8, 1, SIZE, SIZE))
    return net.eval().to(memory_format=torch.channels_last)


def runtimes(net: nn.Module, no_compile: bool) -> dict[str, Run]:
    """Return what runs the net, by name."""

    def bfloat16(images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(images)

    found: dict[str, Run] = {"PyTorch": net, "PyTorch, bfloat16": bfloat16, "onnxruntime": session(net)}
    if not no_compile:
        torch._dynamo.config.recompile_limit = 64  # nets of one class share it
        found["torch.compile"] = torch.compile(net, dynamic=False)
    return found


def session(net: nn.Module) -> Run:
    """Return onnxruntime's session of the net, on one thread."""
    file = io.BytesIO()
    dynamic = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        plain = net.to(memory_format=torch.contiguous_format)
        example = (torch.randn(2, 1, SIZE, SIZE),)
        torch.onnx.export(plain, example, dynamo=True, dynamic_shapes=dynamic, verbose=False).save(file)
        net.to(memory_format=torch.channels_last)
    made = on_one_thread(file.getvalue())
    name = made.get_inputs()[0].name
    return lambda images: made.run(None, {name: images.numpy()})


def on_one_thread(model: bytes) -> onnxruntime.InferenceSession:
    """Return onnxruntime's session of an ONNX file's bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measured(run: Run, batch: int, piece: int) -> float:
    """Return CPU seconds an image."""
    images = torch.randn(batch, 1, SIZE, SIZE)
    times = 32 if batch == 1 else 1
    begun = time.process_time()
    for _ in range(times):
        for part in images.split(piece):
            run(part)
    return (time.process_time() - begun) / times / batch


def product() -> Callable[[], float]:
    """Return what measures the MAC/s of a float32 matrix product of 1,536 rows and columns in onnxruntime, which on
    some processors is twice as fast at it as PyTorch."""
    side = 1536
    shapes = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (side, side)) for name in "abc"]
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", shapes[:2], shapes[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    run = on_one_thread(model.SerializeToString())
    one, other = torch.randn(2, side, side).numpy()

    def measure() -> float:
        begun = time.process_time()
        run.run(None, {"a": one, "b": other})
        return side**3 / (time.process_time() - begun)

    return measure


def table(rows: list[dict], macs: dict[str, int], peak: float) -> None:
    """Print the table, and each net's best beside dsODENet-20's."""
    print(f"a large matrix product: {peak / 1e9:.0f} GMAC/s\n")
    print("| net | MMAC | runtime | images at once | ms per image | images/s | of the product's MAC/s |")
    print("|---|---:|---|---|---:|---:|---:|")
    for row in rows:
        at_once = f"{row['batch']}" if row["batch"] == row["piece"] else f"{row['batch']} in pieces of {row['piece']}"
        print(
            f"| {row['net']} | {macs[row['net']] / 1e6:.2f} | {row['runtime']} | {at_once} | {row['ms']:.3f} "
            f"| {1000 / row['ms']:,.0f} | {row['share']:.1%} |"
        )
    for batch in (1, 256):
        best = {name: min(r["ms"] for r in rows if (r["net"], r["batch"]) == (name, batch)) for name in NETS}
        ratios = ", ".join(f"{name} {ms / best[NETS[0]]:.2f}x" for name, ms in best.items() if name != NETS[0])
        print(f"\nbatch {batch}, the best runtime of each: {NETS[0]} {best[NETS[0]]:.3f} ms; slower: {ratios}")
    print("--result " + json.dumps({"peak": peak, "rows": rows}))


if __name__ == "__main__":
    main()
