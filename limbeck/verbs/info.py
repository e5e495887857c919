"""limbeck info."""

from pathlib import Path

from limbeck.artefacts.kinds import kind_of
from limbeck.deploy.on_device import OnDevice, on_device
from limbeck.errors import InputError
from limbeck.nets.cost import Info, cost, random_net
from limbeck.runs import Tell, silent
from limbeck.training.settings import parsed
from limbeck.training.stores import Labels, open_store


def info(
    model: str,
    *,
    arguments: tuple[str, ...] = (),
    size: int | None = None,
    channels: int = 3,
    classes: int = 10,
    tell: Tell = silent,
) -> Info | Labels | OnDevice:
    """Show a net layer by layer, what a Program needs of a device, or what a label store holds.

    A net of the family without --arguments is compared with the ResNet and the ODENet of its depth.

    Examples:
        limbeck info dsodenet20 --size 28 --channels 1
        limbeck info dsodenet20 --arguments width=8 steps=3,2,2
        limbeck info runs/student
        limbeck info s.program
        limbeck info labels

    Args:
        model: A timm name, such as dsodenet20, rodenet3_56 or mobilenetv2_100, tv/NAME, a run folder, a Program
            (what it needs of a device as C), or a store of limbeck label.
        arguments: Further arguments of the architecture, as for teach; those of a run are known.
        size: Side of the image, in pixels; by default the net's own.
        channels: 3 for colour, 1 for grey; that of a run is known.
        classes: Number of classes; that of a run is known.
    """
    if kind_of(model) == "label store":
        return Labels(model, open_store(model).manifest)
    if kind_of(model) in ("Program", "C file"):
        needs = on_device(model)
        for text in needs.notes():
            tell("note", {"text": text})
        return needs
    if (Path(model) / "model.json").is_file():
        from limbeck.nets import zoo

        if arguments:
            raise InputError(f"{model} is a run, whose arguments are known; leave --arguments out")
        found = cost(zoo.load(model))
    else:
        found = cost(random_net(model, size, channels, classes, parsed(arguments)))
    for text in found.notes():
        tell("note", {"text": text})
    return found
