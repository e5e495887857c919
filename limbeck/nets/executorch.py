"""ExecuTorch files for phones and boards: one image in, logits out, and what a stranger must know. Needs the extra
`executorch`."""

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.errors import InputError, first_line
from limbeck.nets.classifier import Classifier
from limbeck.nets.onnx import described, description
from limbeck.runs import OPEN_SEAL, SEAL, read_sealed, sealed

OPSET = None  # that is ONNX's
_ABOUT = "limbeck"  # the method that gives the description as JSON


def needed(path: str | Path) -> Any:  # noqa: ANN401 - a module without types
    """Return the module executorch.runtime; InputError with the remedy where the extra is not installed."""
    try:
        return importlib.import_module("executorch.runtime")
    except ImportError as error:
        raise InputError(
            f"{path} needs the package executorch: pip install 'limbeck[executorch]', best in a virtual environment "
            "of its own, as it brings many packages"
        ) from error


def export(classifier: Classifier, path: Path) -> None:
    """Write the float net to `path`, for XNNPACK: "forward" takes uint8 [1, channels, size, size], gives float32
    [1, classes], normalisation inside; "limbeck" gives classes, input and lineage as JSON, the keys those of `onnx`.
    InputError where torch can't trace the net, or ExecuTorch can't lower it.
    """
    needed(path)
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    seen = classifier.input
    image = torch.zeros(1, *seen.shape, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(classifier.eval(), (image,))
            # XNNPACK's folding of BatchNorm refuses statistics that are a row of a table, as an ODE's are
            traced = constant_prop_pass(traced)
            about = {_ABOUT: json.dumps({**description(classifier), SEAL: OPEN_SEAL}, ensure_ascii=False)}
            lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()], constant_methods=about)
            buffer = sealed(lowered.to_executorch().buffer)
    except Exception as error:  # passes raise plain Exceptions
        raise InputError(f"{classifier.name} can't be written for ExecuTorch: {first_line(error)}") from error
    path.write_bytes(buffer)


def load(path: str | Path) -> Classifier:
    """Return the net in a file that `export` wrote, to be run by ExecuTorch; InputError where it is none."""
    runtime = needed(path).Runtime.get()
    read_sealed(path)
    try:
        program = runtime.load_program(str(path))
        (about,) = program.load_method(_ABOUT).execute([])
        method = program.load_method("forward")
        known = json.loads(about)
    except Exception as error:  # the runtime raises RuntimeError, and what pybind11 makes of others
        raise InputError(f"{path} is not an ExecuTorch file of limbeck export: {first_line(error)}") from error

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        each = [method.execute([torch.from_numpy(image[None])])[0].numpy().copy() for image in images]
        return np.concatenate(each) if each else np.zeros((0, len(made.classes)), np.float32)

    made = described(answer, known, str(path), engine="ExecuTorch", kind="ExecuTorch")
    return made
