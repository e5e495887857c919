"""Limbeck: distil big image classifiers into small ones and put them on edge hardware.

The verbs of the command line are functions here, with the same names and keywords; they take values and return values:

    import limbeck
    teacher = limbeck.teach(data="photos/", model="resnet20", out="runs/t1")
    student = limbeck.distill(data="photos/", student="dsodenet20", teachers=("runs/t1",), out="runs/s")
"""

from limbeck.errors import InputError, VerificationError
from limbeck.training.settings import Training
from limbeck.verbs.adapt import adapt
from limbeck.verbs.audit import audit
from limbeck.verbs.auto import auto
from limbeck.verbs.bench import bench
from limbeck.verbs.compile import compile
from limbeck.verbs.data import data
from limbeck.verbs.demo import demo
from limbeck.verbs.distill import distill
from limbeck.verbs.doctor import doctor
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.export import export
from limbeck.verbs.info import info
from limbeck.verbs.label import label
from limbeck.verbs.merge_labels import merge_labels
from limbeck.verbs.predict import predict
from limbeck.verbs.push import push
from limbeck.verbs.quantize import quantize
from limbeck.verbs.report import report
from limbeck.verbs.serve import serve
from limbeck.verbs.simulate import simulate
from limbeck.verbs.steps import steps
from limbeck.verbs.teach import teach
from limbeck.verbs.verify_labels import verify_labels
from limbeck.verbs.zero_shot import zero_shot
from limbeck.verbs.zoo import zoo
from limbeck.version import __version__

__all__ = [
    "InputError", "Training", "VerificationError", "__version__", "adapt", "audit", "auto", "bench", "compile", "data",
    "demo", "distill", "doctor", "evaluate", "export", "info", "label", "merge_labels", "predict", "push", "quantize",
    "report", "serve", "simulate", "steps", "teach", "verify_labels", "zero_shot", "zoo",
]  # fmt: skip
