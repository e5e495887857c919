"""The nets that an adaptation chooses from: what each predicts for held-out target images, and which one is kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.training.adaptation.adapted import Report
from limbeck.training.adaptation.domains import Domains, class_places, labels_of, still_batches
from limbeck.training.run import evaluate_on
from limbeck.training.settings import Training

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import Tensor

    from limbeck.learn.select import Criterion, Signs
    from limbeck.nets.zoo import Classifier

FOLDER = "candidates"  # in the run folder: a .json with the signs and a .npy with the classes predicted, per candidate
SOURCE, NORM = "source", "norm"  # the model as it came; the same with the target's BatchNorm statistics
ORACLE = "oracle"  # never chosen: it was trained on target labels


@dataclass(frozen=True)
class Judge:
    """Looks at nets without the target's labels, and keeps the best so far in the run folder.

    Candidates are named source, norm, and by their epochs 0001, 0002, ...
    """

    domains: Domains
    training: Training
    accelerator: "Accelerator"
    out: Path
    criterion: "Criterion"

    def begin(self, net: "Classifier") -> None:
        """Judge the model as it came and, where it has BatchNorm, with the target's statistics."""
        from limbeck.learn.adapt import has_norms

        self._note(SOURCE, net)
        if has_norms(net):
            self.settle(net)
            self._note(NORM, net)

    def epoch(self, net: "Classifier", epoch: int) -> dict[str, float]:
        """Judge the net after an epoch (BatchNorm statistics become the target's); keep it if it is the best so far.
        What a later epoch of an interrupted run left does not count."""
        from limbeck.learn.select import better

        self.settle(net)
        name = f"{epoch:04d}"
        found = self._note(name, net)
        if self.accelerator.is_main_process:
            earlier = [signs for other, signs in self.signs().items() if _is_epoch(other) and other < name]
            if all(better(self.criterion, found, signs) for signs in earlier):
                self.keep(net)
        shown = {f"target_{key}": value for key, value in found.to_json().items() if key != "source"}
        return shown | ({} if found.source is None else {"source_top1": found.source})

    def settle(self, net: "Classifier") -> None:
        """Replace the net's BatchNorm statistics by those of target images."""
        from limbeck.nets.norm import reestimate

        stream = still_batches(self.domains.target, net, self.training, self.accelerator, whole=True)
        reestimate(net, (batch.images for batch in stream))

    def keep(self, net: "Classifier") -> None:
        """Save the net in the run folder."""
        from limbeck.nets import zoo

        if self.accelerator.is_main_process:
            zoo.save(net, self.out)

    def finish(self, net: "Classifier", before: "dict[str, Tensor]") -> None:
        """Leave the chosen net in the run folder; that of the chosen epoch is there already."""
        self.accelerator.wait_for_everyone()
        chosen, _ = self.choose()
        if chosen in (SOURCE, NORM):
            net.load_state_dict(before)
            if chosen == NORM:
                self.settle(net)
            self.keep(net)

    def choose(self) -> tuple[str, str]:
        """Return the candidate to keep, and why others were discarded, if they were.

        That is the criterion's epoch, unless it collapsed or, without a source, strayed; then the model with the
        target's statistics, unless these made it collapse; then the model as it came.
        """
        from limbeck.learn.select import best, collapsed, says_fewer, strayed

        signs = self.signs()
        why = says_fewer(signs[NORM], signs[SOURCE]) if NORM in signs else "it has no BatchNorm"
        untrained = SOURCE if why else NORM
        epochs = [name for name in signs if _is_epoch(name)]
        if not epochs:
            return untrained, why
        chosen = epochs[best(self.criterion, [signs[name] for name in epochs])]
        why = collapsed(signs[chosen], signs[untrained])
        if not why and self.domains.source is None:  # a source's labels may teach what the model did not know
            why = strayed(self._said(chosen), self._said(untrained))
        return (untrained, why) if why else (chosen, "")

    def signs(self) -> "dict[str, Signs]":
        """Return what is known of each candidate, in their order."""
        from limbeck.learn.select import from_json

        return {path.stem: from_json(runs.read_json(path)) for path in self._files(".json")}

    def beside(self, oracle: str, classes: tuple[str, ...]) -> None:
        """Judge a net that was trained on target labels, for comparison."""
        from limbeck.nets import zoo

        net = zoo.load(oracle).to(self.accelerator.device)
        zoo.check_classes(net, classes, order=self.training.class_order)
        self._note(ORACLE, net)

    def report(self, chosen: str, target: str, classes: tuple[str, ...]) -> Report | None:
        """Compare what the candidates predicted with the target's labels, where it has any. Nothing is decided here."""
        truth = self._truth(target, classes)
        if truth is None:
            return None
        import numpy as np

        from limbeck.learn.select import CRITERIA, best

        known = truth >= 0
        predicted = {path.stem: np.load(path, allow_pickle=False)[known] for path in self._files(".npy")}
        truth, signs = truth[known], self.signs()
        right = {name: float((labels == truth).mean()) for name, labels in predicted.items()}
        epochs = [name for name in signs if _is_epoch(name)]
        criteria = [c for c in CRITERIA if epochs and not (c == "source" and self.domains.source is None)]
        picks = {c: epochs[best(c, [signs[name] for name in epochs])] for c in criteria}
        return Report(
            images=len(truth),
            source_only=right[SOURCE],
            norm=right.get(NORM),
            adapted=right[chosen],
            oracle=right.get(ORACLE),
            recall={
                name: (_recall(predicted[SOURCE], truth, i), _recall(predicted[chosen], truth, i))
                for i, name in enumerate(classes)
                if (truth == i).any()
            },
            picks={criterion: (name, right[name]) for criterion, name in picks.items()},
        )

    def _note(self, name: str, net: "Classifier") -> "Signs":
        """Store what the net predicts for held-out target images, and return its signs."""
        from limbeck.learn.evaluate import answers
        from limbeck.learn.select import signs

        stream = still_batches(self.domains.held_out, net, self.training, self.accelerator, whole=False)
        logits = answers(net, stream, accelerator=self.accelerator).logits
        source = self.domains.source
        measured = None if source is None else evaluate_on(source, net, self.training, self.accelerator)
        found = signs(logits, None if measured is None else measured.top1)
        if self.accelerator.is_main_process:
            import numpy as np

            with runs.replacing(self.out / FOLDER / f"{name}.npy") as temporary:
                np.save(temporary, logits.argmax(dim=1).numpy().astype(np.uint16))
            runs.write_json(self.out / FOLDER / f"{name}.json", found.to_json())
        return found

    def _said(self, name: str) -> "Tensor":
        """Return the classes [N] that a candidate predicted for the held-out target images."""
        import numpy as np
        import torch

        return torch.from_numpy(np.load(self.out / FOLDER / f"{name}.npy", allow_pickle=False).astype(np.int64))

    def _files(self, suffix: str) -> "Iterator[Path]":
        """Yield the candidates' files, those of no epoch first."""
        found = (self.out / FOLDER).glob(f"*{suffix}")
        yield from sorted((path for path in found if not path.name.startswith(".")), key=_place)

    def _truth(self, target: str, classes: tuple[str, ...]) -> "NDArray[np.int64] | None":
        """Return the labels of the held-out target images, -1 where one has none; None where none has."""
        labelled = labels_of(target, self.training)
        if labelled is None or labelled.labels is None:
            return None
        import numpy as np

        places = class_places(labelled.classes, classes, target)
        known = dict(zip(labelled.keys, (places[i] for i in labelled.labels.tolist()), strict=True))
        return np.array([known.get(key, -1) for key in self.domains.held_out.keys])


def _is_epoch(name: str) -> bool:
    return name.isdecimal()


def _place(path: Path) -> tuple[int, str]:
    return [SOURCE, NORM, ORACLE, path.stem].index(path.stem), path.stem


def _recall(predicted: "NDArray[np.uint16]", truth: "NDArray[np.int64]", label: int) -> float:
    return float((predicted[truth == label] == label).mean())
