"""limbeck merge-labels."""

import time
from typing import Literal

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import keywords
from limbeck.training.stores import Labels, Records, merge


@keywords
def merge_labels(
    stores: tuple[str, ...],
    *,
    out: str,
    average: Literal["probabilities", "logits"] = "probabilities",
    records: Records = Records(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Labels:
    """Merge label stores of the same views into one, without the teachers.

    A single store can be cut to fewer views or classes. Whole distributions merge exactly; of top-k labels, what is
    known is averaged and cut again. The same command continues an interrupted merge.

    Examples:
        limbeck merge-labels labels1 labels2 --out both

    Args:
        stores: Folders that limbeck label wrote.
        out: The store to write.
        average: What is averaged: probabilities or logits.
        records: What is stored of each view.
    """
    begun = time.monotonic()
    if not stores:
        raise InputError("no store is given; name folders that limbeck label wrote")
    may_write(out, "label store", inputs=stores)
    return Labels(out, merge(stores, out, average, records, tell), time.monotonic() - begun)
