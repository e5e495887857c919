"""limbeck teach."""

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.runs import Tell
from limbeck.training.results import Estimate, Trained
from limbeck.training.settings import Training, keywords
from limbeck.training.teach import teach as run


@keywords
def teach(
    *,
    data: str,
    model: str,
    out: str,
    pretrained: bool = False,
    arguments: tuple[str, ...] = (),
    training: Training = Training(),  # noqa: B008 - frozen
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Train a classifier, or fine-tune one, on labelled images.

    Examples:
        limbeck teach --data photos/ --model resnet20 --size 64 --epochs 30 --out runs/t1
        limbeck teach --data photos/ --model resnet50.ram_in1k --pretrained --lr 0.01 --out runs/t2

    Args:
        data: An image folder with train/ and val/, a table FILE.csv of files and labels, an IDX folder, digits:mnist,
            torchvision:NAME, hfds/NAME, ...
        model: A timm name (Limbeck's own nets are among them), tv/NAME, or a run folder to start from.
        out: The run folder to write.
        pretrained: Start from the weights of the tag that --model names; the head is new where the classes differ.
        arguments: Further arguments of the architecture, such as width=8 steps=3,2,2.
        training: How to train.
        dry_run: Build everything, make a few steps, estimate time, memory and disk; write nothing.
    """
    may_write(None if dry_run else out, "run", inputs=(model,), data=(data,))
    return run(data, model, out, training, pretrained=pretrained, arguments=arguments, dry_run=dry_run, tell=tell)
