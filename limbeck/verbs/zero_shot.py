"""limbeck zero-shot."""

from limbeck import runs
from limbeck.artefacts.kinds import kind_of, may_write
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords
from limbeck.training.zeroshot import Named, Prior
from limbeck.training.zeroshot import zero_shot as run


@keywords
def zero_shot(
    model: str,
    *,
    classes: tuple[str, ...],
    out: str,
    templates: tuple[str, ...] = (),
    temperature: float = 1.0,
    data: str | None = None,
    prior: Prior = "model",
    images: int = 1000,
    batch: int = 64,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Named:
    """Make a classifier of a text–image model (CLIP, SigLIP) and class names, without any label.

    The text of each class is read once and becomes the last layer, so that what is written is a run as any other:
    label, distill, evaluate, predict, adapt and all that take a net take it. Needs the extra clip.

    Examples:
        limbeck zero-shot ViT-B-32/laion2b_s34b_b79k --classes cat dog "fire truck" --out runs/clip
        limbeck zero-shot ViT-B-16-SigLIP/webli --classes names.csv --data photos/ --prior equal --out runs/siglip

    Args:
        model: open_clip's ARCH/TAG, ARCH/TAG@FILE or ARCH@FILE, hf-hub:ID, or local-dir:FOLDER as open_clip saves.
        classes: Names; or a file with a line per class, its name and any phrases that describe it in the templates in
            place of the name, with commas between; or a folder with a folder per class.
        out: The run folder to write.
        templates: Prompts in which {} stands for the class; their embeddings are averaged. By default the 80 of CLIP's
            authors.
        temperature: Of the softmax, as a multiple of the model's own: above 1 it is less sure.
        data: Photos of which to report what is predicted, as for label; labels are not read.
        prior: equal: shift the classes' logits so that all are equally frequent among --data, for a model that favours
            some; only where they are about equally frequent.
        images: Photos to look at, evenly spaced.
        batch: Photos per batch.
        loading: How images are read.
    """
    may_write(out, "run", inputs=(model, *classes), data=(data,))
    if kind_of(out) == "run":
        raise InputError(f"--out {out} already holds a run; choose another")
    return run(
        model, classes, out, templates=templates, temperature=temperature, data=data, prior=prior, images=images,
        batch=batch, loading=loading, tell=tell,
    )  # fmt: skip
