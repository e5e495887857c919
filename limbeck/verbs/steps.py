"""limbeck steps."""

from pathlib import Path

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.deploy.steps import PLOT, Speeds, drawn_once, measure, of_steps, picture
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.sets import to_compare
from limbeck.training.settings import Loading, keywords


@keywords
def steps(
    model: str,
    *,
    data: str,
    out: str,
    steps: tuple[int, ...] = (1, 2, 3),
    images: int = 2048,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Speeds:
    """Run an ODE net with fewer or more steps: several speeds of one net, with accuracy and time of each.

    The blocks' span stays. Each number of steps gets a run folder in --out, which every verb takes. Weights are the
    model's; BatchNorm's statistics, which belong to a step, are estimated anew from training images, without labels. A
    net trained with --random-steps is meant for this.

    Examples:
        limbeck steps runs/s --data photos/ --steps 1 2 3 --out runs/speeds
        limbeck quantize runs/speeds/2 --data photos/ --out fast.program

    Args:
        model: A run folder, or what else names a trained net with ODE blocks.
        data: As for teach; labels are used only to measure.
        out: The folder to write: a run folder for each number of steps, and a plot.
        steps: Numbers of steps to try, the same for every ODE block.
        images: Training images that the statistics are estimated from.
        batch: Images per batch.
        loading: How images are read.
    """
    from limbeck.images.sources import open_source
    from limbeck.nets import zoo
    from limbeck.nets.norm import reestimate

    if not steps or len(set(steps)) != len(steps) or min(steps) < 1 or images < 1:
        raise InputError(
            f"--steps is {steps} and --images {images}; give different steps, each 1 or more, and 1 image or more"
        )
    may_write(out, "speeds", inputs=(model,), data=(data,))
    net = zoo.load(model).eval()
    train = open_source(data, "train", labelled=False, on_broken=loading.on_broken, download=loading.download)
    held_out = to_compare(data, loading)
    if held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes, order=loading.class_order)):
        tell("note", {"text": note})
    found = [measure(net, model, held_out, batch, loading.workers)]
    nets = {count: of_steps(net, count) for count in steps}  # refuse before anything is written
    with runs.building(Path(out)) as made:
        for count, other in nets.items():
            tell("note", {"text": f"{count} steps: statistics from {min(images, len(train))} training images"})
            reestimate(other, drawn_once(net, train, images, batch, loading.workers))
            zoo.save(other, made / str(count))
            found.append(measure(other, str(Path(out) / str(count)), held_out, batch, loading.workers))
        if drawn := picture(found, model):
            runs.write_text(made / PLOT, drawn)
    return Speeds(model, len(held_out), tuple(found), str(Path(out) / PLOT) if drawn else "")
