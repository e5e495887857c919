"""A model behind the page: its predictions for a picture, and how long they took."""

import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import torch

from limbeck.errors import first_line
from limbeck.images.views import Augment
from limbeck.nets.classifier import Classifier, check_finite
from limbeck.ui.picture import Picture, view_of
from limbeck.ui.shift import Backgrounds, Pixels, Shift, shifted

TOP = 5


@dataclass(frozen=True)
class Voice:
    """A model, frozen, and how it looks at pictures."""

    name: str  # as the user gave it
    kind: str  # "run", "Program", ...
    detail: str  # what else is worth a line
    net: Classifier
    sight: Augment  # how it looks at pictures
    meanings: dict[str, str]  # of classes whose names are not English
    worker: Executor  # one thread, in which it predicts


class Views:
    """What the nets see of a picture, made once for all that see the same."""

    def __init__(self, picture: Picture, shift: Shift, backgrounds: Backgrounds | None) -> None:
        self._picture, self._shift, self._backgrounds = picture, shift, backgrounds
        self._made: dict[Augment, Pixels] = {}

    def of(self, voice: Voice) -> Pixels:
        """Return uint8 [3, size, size]; InputError where the picture can't be decoded."""
        sight = voice.sight
        if sight not in self._made:
            self._made[sight] = shifted(view_of(self._picture, sight), self._shift, self._backgrounds)
        return self._made[sight]


def answer(voice: Voice, view: Pixels) -> dict[str, Any]:
    """Return the likeliest classes with their probabilities, and the milliseconds of the net alone.

    A net that fails, whatever it raises, returns a sentence as "error", so that the others go on.
    """
    try:
        start = time.perf_counter()
        probabilities = _probabilities(voice.net, view)
        milliseconds = 1000 * (time.perf_counter() - start)
    except Exception as error:  # anyone's net, in any runtime, raises anything
        return {"error": f"{voice.name} failed: {first_line(error)}"}
    values, places = probabilities.topk(min(TOP, len(probabilities)))
    names = [voice.net.classes[place] for place in places.tolist()]
    top = [
        {"class": name, "meaning": voice.meanings.get(name, ""), "probability": value}
        for name, value in zip(names, values.tolist(), strict=True)
    ]
    return {"top": top, "milliseconds": milliseconds}


@torch.inference_mode()
def _probabilities(net: Classifier, view: Pixels) -> torch.Tensor:
    """Return float64 [classes]."""
    logits: torch.Tensor = net(torch.from_numpy(view.copy())[None].to(net.scale.device))[0].double().cpu()
    check_finite(logits, "it")
    return logits.softmax(0)
