"""limbeck adapt."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.runs import Tell
from limbeck.training.adaptation.adapt import adapt as run
from limbeck.training.adaptation.adapted import Adapted
from limbeck.training.adaptation.methods import Adapting, Method, Terms
from limbeck.training.results import Estimate
from limbeck.training.settings import Training, keywords


@keywords
def adapt(
    model: str,
    *,
    target: str,
    out: str,
    source: str | None = None,
    source_free: bool = False,
    teachers: tuple[str, ...] = (),
    method: Method = "auto",
    terms: Terms = Terms(),  # noqa: B008 - frozen
    how: Adapting = Adapting(),  # noqa: B008 - frozen
    oracle: str | None = None,
    training: Training = Training(epochs=10, batch=64, lr=0.05),  # noqa: B008 - frozen
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Adapted | Estimate:
    """Adapt a classifier to unlabelled images from elsewhere, with its labelled source or without.

    Labels of the target are used for the report only: the epoch to keep is chosen without them, and where the net has
    collapsed the unadapted model is kept. auto is combined (minimum class confusion, information maximisation, the
    net's own confident predictions) with a source, and shot without.

    Examples:
        limbeck adapt runs/s --source digits:mnist --target digits:mfeat --out runs/a
        limbeck adapt runs/s --source-free --target photos/ --out runs/a
        limbeck adapt runs/s --source A --target B --method mobileda --teachers runs/t --out runs/a

    Args:
        model: A run folder, or anything else that names a trained classifier.
        target: Images from where the model will be used: a folder, digits:mfeat, ...; labels are not needed.
        out: The run folder to write.
        source: Labelled images of the same classes, such as those that the model was trained on.
        source_free: Adapt without a source.
        teachers: Classifiers whose predictions on the target are learned too (see --kd).
        method: The terms of the loss; the terms' own flags override it.
        terms: Weights of the loss's terms.
        how: Settings of the adaptation.
        oracle: A classifier trained on the target's labels, for comparison.
        training: How to train. An epoch is one pass over the larger of source and target.
        dry_run: Build everything, make a few steps, estimate time, memory and disk; write nothing.
    """
    may_write(None if dry_run else out, "run", inputs=(model, *teachers, oracle), data=(target, source))
    return run(
        model, target, out, training, source=source, source_free=source_free, teachers=teachers, method=method,
        terms=terms, how=how, oracle=oracle, dry_run=dry_run, tell=tell,
    )  # fmt: skip
