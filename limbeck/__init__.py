"""Limbeck: distil big image classifiers into small ones and put them on edge hardware.

The verbs of the command line are functions here, with the same names and keywords:

    import limbeck
    teacher = limbeck.teach(data="photos/", model="resnet20", out="runs/t1")
    student = limbeck.distill(data="photos/", student="dsodenet20", teachers=("runs/t1",), out="runs/s")
"""

from limbeck.errors import InputError, VerificationError
from limbeck.verbs.distill import distill
from limbeck.verbs.label import label
from limbeck.verbs.settings import Training
from limbeck.verbs.teach import teach

__version__ = "0.1.0"
__all__ = ["InputError", "Training", "VerificationError", "__version__", "distill", "label", "teach"]
