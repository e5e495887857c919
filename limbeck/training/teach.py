"""Train a classifier, or fine-tune one, on labels."""

from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.runs import Tell
from limbeck.training.results import Estimate, Trained
from limbeck.training.run import accelerator_for, begin_run, new_net, train
from limbeck.training.sets import as_seen, augment_of, fitting, open_sets
from limbeck.training.settings import Training, flat

if TYPE_CHECKING:
    from torch import nn

    from limbeck.learn.objectives import Objective


def teach(
    data: str,
    model: str,
    out: str,
    training: Training,
    *,
    pretrained: bool = False,
    arguments: tuple[str, ...] = (),
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Train `model` on labelled images in the run folder `out`; a dry run makes a few steps and writes nothing."""
    settings = flat(data=data, model=model, out=out, pretrained=pretrained, arguments=arguments, training=training)
    accelerator = accelerator_for(training, out)
    sets = open_sets(data, training, tell=tell)
    training = fitting(training, len(sets.train), accelerator.num_processes, tell)
    net = new_net(model, sets, training, pretrained=pretrained and not dry_run, arguments=arguments)
    sets = as_seen(sets, net, tell)
    if not dry_run:
        begin_run(out, "teach", settings, sets, training, accelerator, tell=tell)

    def objective(student: "nn.Module", _: "nn.Module | None") -> "Objective":
        from limbeck.learn.objectives import supervised

        return supervised(student, label_smoothing=training.label_smoothing)

    return train(
        net,
        objective,
        sets,
        training,
        out=out,
        view=augment_of(sets.train, training, net.input.size, net.input.interpolation),
        accelerator=accelerator,
        dry_run=dry_run,
        tell=tell,
    )
