"""limbeck distill."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.runs import Tell
from limbeck.training.distill import Mode
from limbeck.training.distill import distill as run
from limbeck.training.results import Estimate, Trained
from limbeck.training.settings import Ensemble, Training, keywords


@keywords
def distill(
    *,
    data: str,
    student: str,
    out: str,
    teachers: tuple[str, ...] = (),
    labels: str | None = None,
    pretrained: bool = False,
    arguments: tuple[str, ...] = (),
    ensemble: Ensemble = Ensemble(),  # noqa: B008 - frozen
    hard_weight: float = 0.0,
    discriminator: Mode = "off",
    discriminator_lr: float = 1e-4,
    training: Training = Training(weight_decay=0.0),  # noqa: B008 - frozen
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Distil teachers into a small student, without labels (MEAL V2).

    The student learns the teachers' averaged softmax on the same views by soft cross-entropy. One-hot labels are
    used with --hard-weight alone, so unlabelled images suffice. With --labels no teacher runs: what `limbeck
    label` stored is replayed, views included, and averaging and temperature are the store's.

    Examples:
        limbeck distill --data photos/ --student dsodenet20 --teachers runs/t1 runs/t2 --out runs/s
        limbeck distill --data photos/ --student dsodenet20 --labels labels --out runs/s

    Args:
        data: As for teach; a folder of unlabelled images suffices.
        student: A timm name (Limbeck's own nets are among them), tv/NAME, or a run folder to start from.
        teachers: Run folders, pinned timm tags, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID, local-dir:PATH, or .onnx files
            that limbeck export wrote (onnxruntime runs them on the CPU).
        out: The run folder to write.
        labels: A store that limbeck label wrote of the same data, in place of teachers.
        pretrained: Start from the weights of the tag that --student names.
        arguments: Further arguments of the student's architecture, such as width=8 steps=3,2,2.
        ensemble: How the teachers' outputs are combined.
        hard_weight: Weight of the one-hot cross-entropy beside the soft one.
        discriminator: cooperative is that of MEAL V2's code; adversarial reverses its gradient to the student.
        discriminator_lr: Learning rate of the discriminator, which no schedule changes.
        training: How to train.
        dry_run: Build everything, make a few steps, estimate time, memory and disk; write nothing.
    """
    may_write(None if dry_run else out, "run", inputs=(student, *teachers, labels), data=(data,))
    return run(
        data, student, out, training, teachers=teachers, labels=labels, pretrained=pretrained, arguments=arguments,
        ensemble=ensemble, hard_weight=hard_weight, discriminator=discriminator, discriminator_lr=discriminator_lr,
        dry_run=dry_run, tell=tell,
    )  # fmt: skip
