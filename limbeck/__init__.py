"""Limbeck: distil big image classifiers into small ones and put them on edge hardware.

The verbs of the command line are functions here, with the same names and keywords; they take values and return values:

    import limbeck
    teacher = limbeck.teach(data="photos/", model="resnet20", out="runs/t1")
    student = limbeck.distill(data="photos/", student="dsodenet20", teachers=("runs/t1",), out="runs/s")

Two names are taken by folders: the verbs `data` and `report` are `limbeck.verbs.data.data` and
`limbeck.verbs.report.report`.
"""

from limbeck.errors import InputError, VerificationError
from limbeck.verbs.adapt import adapt
from limbeck.verbs.bench import bench
from limbeck.verbs.compile import compile
from limbeck.verbs.demo import demo
from limbeck.verbs.distill import distill
from limbeck.verbs.doctor import doctor
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.export import export
from limbeck.verbs.info import info
from limbeck.verbs.label import label
from limbeck.verbs.predict import predict
from limbeck.verbs.push import push
from limbeck.verbs.quantize import quantize
from limbeck.verbs.serve import serve
from limbeck.verbs.settings import Training
from limbeck.verbs.simulate import simulate
from limbeck.verbs.steps import steps
from limbeck.verbs.teach import teach
from limbeck.verbs.zoo import zoo

__version__ = "0.1.0"
__all__ = [
    "InputError", "Training", "VerificationError", "__version__", "adapt", "bench", "compile", "demo", "distill",
    "doctor", "evaluate", "export", "info", "label", "predict", "push", "quantize", "serve", "simulate", "steps",
    "teach", "zoo",
]  # fmt: skip
