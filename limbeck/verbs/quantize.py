"""limbeck quantize."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.quantise import Quantised, Quantising, quantise
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import Loading, Training, keywords


@keywords
def quantize(
    model: str,
    *,
    data: str,
    out: str,
    how: Quantising = Quantising(),  # noqa: B008 - frozen
    train: bool = False,
    epochs: int = 3,
    lr: float = 0.003,
    max_drop: float | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    seed: int = 0,
    tell: Tell = runs.silent,
) -> Quantised:
    """Turn a trained classifier into integers, for hardware, and measure what that costs.

    Scales are chosen from training images, without labels; the float net and the Program are then compared on the
    held-out images. Every number is proved to fit its width from the weights themselves.

    Examples:
        limbeck quantize runs/s --data photos/ --out s.program
        limbeck quantize runs/s --data photos/ --bits 16 --max-drop 0.1 --out s.program
        limbeck quantize runs/s --data photos/ --bits w4a8 --train --epochs 5 --out s.program

    Args:
        model: A run folder, or anything else that limbeck evaluate takes: any convolutional net.
        data: As for teach.
        out: The file to write, x.program.
        how: How the net becomes integers.
        train: Train the integer net to reproduce the float net's outputs, without labels. If interrupted, it leaves
            nothing.
        epochs: Passes over the training images, with --train.
        lr: Learning rate of --train: SGD with momentum, cosine.
        max_drop: Points of top-1 that may be lost; if more are lost, nothing is written and the exit code is 3.
        batch: Images per batch.
        loading: How images are read.
        seed: Seed of the order and views of --train.
    """
    if not out.endswith(".program"):
        raise InputError(f"--out {out} must end in .program, by which limbeck evaluate recognises it")
    may_write(out, "Program", inputs=(model,), data=(data,))
    training = Training(
        epochs=epochs, lr=lr, batch=batch, weight_decay=0.0, nesterov=True, seed=seed, **vars(loading)
    )  # fmt: skip
    return quantise(model, data, out, how, training, train=train, max_drop=max_drop, tell=tell)
