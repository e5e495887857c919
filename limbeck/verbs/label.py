"""limbeck label."""

import time

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.runs import Tell
from limbeck.training.settings import Ensemble, Loading, Training, Viewing, keywords
from limbeck.training.stores import Labels, Records, write


@keywords
def label(
    *,
    data: str,
    teachers: tuple[str, ...],
    out: str,
    records: Records = Records(),  # noqa: B008 - frozen
    ensemble: Ensemble = Ensemble(),  # noqa: B008 - frozen
    viewing: Viewing = Viewing(),  # noqa: B008 - frozen
    seed: int = 0,
    limit: int | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Labels:
    """Store what teachers predict for many views of every image, to train students from with distill --labels.

    The same command continues an interrupted store; finished shards are not computed again. torchrun shares the shards
    among ranks. limbeck info shows a store, limbeck verify-labels checks it, limbeck merge-labels merges several.

    Examples:
        limbeck label --data photos/ --teachers runs/t1 runs/t2 --views 50 --out labels

    Args:
        data: As for teach; labels are not read.
        teachers: As for distill.
        out: The store to write.
        records: What is stored of each view.
        ensemble: How the teachers' outputs are combined.
        viewing: How views are drawn.
        seed: Seed of the views. A training with this seed and live teachers sees the same ones.
        limit: Label this many images only, as for teach.
        batch: Views per batch of the teachers.
        loading: How images are read.
    """
    begun = time.monotonic()
    may_write(out, "label store", inputs=teachers, data=(data,))
    training = Training(batch=batch, limit=limit, seed=seed, **vars(viewing), **vars(loading))
    made = write(data, teachers, out, ensemble, records, training, tell)
    return Labels(out, made, time.monotonic() - begun)
