"""limbeck audit."""

from pathlib import Path

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.audit import Audit, ask, read
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords


@keywords
def audit(
    models: tuple[str, ...],
    *,
    data: str | None = None,
    out: str | None = None,
    images: int = 50,
    seed: int = 0,
    batch: int = 64,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Audit:
    """Find out how good a classifier or several teachers are on photos without labels, from your answers for a few.

    First with --data and --out: it draws the photos whose answers say most and writes a sheet, and a page that shows
    the photos and takes your answers. Then with the sheet alone: the accuracy, with its 95% interval.

    Examples:
        limbeck audit runs/clip --data heap/ --out audit.csv
        limbeck audit audit.csv

    Args:
        models: As for evaluate; of several the probabilities are averaged, as distill does. Or a sheet with answers.
        data: The photos; all below a folder; labels are not read.
        out: The sheet to write, a .csv; the page is beside it, a .html.
        images: Photos to ask about.
        seed: Seed of the draw.
        batch: Photos per batch.
        loading: How images are read.
    """
    if not models:
        raise InputError("nothing is given to audit; name a classifier, or a sheet that limbeck audit wrote")
    if len(models) == 1 and Path(models[0]).suffix.lower() == ".csv":
        if data is not None or out is not None:
            raise InputError(f"{models[0]} is a sheet, whose answers need neither --data nor --out; leave them out")
        return read(Path(models[0]))
    if data is None or out is None:
        raise InputError("an audit begins with photos and a sheet to write; give --data and --out audit.csv")
    if Path(out).suffix != ".csv":
        raise InputError(f"--out {out} does not end in .csv, as a sheet does")
    may_write(out, "table", inputs=models, data=(data,))
    may_write(str(Path(out).with_suffix(".html")), "page", inputs=models, data=(data,))
    return ask(models, data, images, Path(out), seed=seed, batch=batch, loading=loading, tell=tell)
