"""The model card of a run: what it is, how good, made of what, how to load it. Only what the run's files say."""

from typing import TYPE_CHECKING, Any

from limbeck.version import __version__

if TYPE_CHECKING:
    from limbeck.nets.classifier import Classifier, Lineage

_NAMED = 20  # classes that the card names
_WEAKEST = 5


def card(
    net: "Classifier",
    to: str,
    recipe: dict[str, Any],
    results: dict[str, Any],
    environment: dict[str, Any],
    licence: str = "",
) -> str:
    """Return README.md of the model that `to` loads. `recipe`, `results` and `environment` are what the run's files
    hold, empty where there are none; what is not known is left out, or called unknown."""
    parts = [
        _metadata(net, licence),
        f"# {_plain(to.rstrip('/').rpartition('/')[2].rpartition(':')[2])}",
        _summary(net, recipe),
        "## Figures",
        _figures(results),
        "## Use",
        _use(net, to, recipe),
        "## Lineage",
        _lineage(net, recipe, results, environment, licence),
        "## Limits",
        _limits(results),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: object) -> str:
    """Return somebody's text as one line of Markdown, in which it marks nothing up."""
    line = " ".join(str(text).split())[:200]
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|~" else c for c in line)


def _code(text: object) -> str:
    """Return a name as code; in a table too."""
    line = " ".join(str(text).split())[:200].replace("`", "'").replace("|", r"\|")
    return f"`{line}`"


def _metadata(net: "Classifier", licence: str) -> str:
    from huggingface_hub import ModelCardData

    from limbeck.nets.hub import home_of

    library = "timm" if home_of(net.name) == "timm" else "limbeck"
    tags = ["image-classification", "limbeck", *(["distillation"] if net.lineage.teachers else [])]
    found = ModelCardData(library_name=library, pipeline_tag="image-classification", tags=tags, license=licence or None)
    return f"---\n{found.to_yaml()}\n---"


def _summary(net: "Classifier", recipe: dict[str, Any]) -> str:
    seen, classes = net.input, net.classes
    named = ", ".join(_code(name) for name in classes[:_NAMED]) + (", ..." if len(classes) > _NAMED else "")
    kind = "grey" if seen.channels == 1 else "RGB"
    count = sum(parameter.numel() for parameter in net.net.parameters())
    made = f", made by `limbeck {_verb(recipe)}`" if recipe else ""
    arguments = f" ({_code(net.arguments)})" if net.arguments else ""
    return (
        f"An image classifier, {_code(net.name)}{arguments} of {count:,} parameters{made}. It takes {kind} images of "
        f"{seen.size} x {seen.size} pixels and distinguishes {len(classes)} classes: {named}."
    )


def _verb(recipe: dict[str, Any]) -> str:
    return next((verb for verb in ("teach", "distill", "adapt") if recipe.get("verb") == verb), "VERB")


def _figures(results: dict[str, Any]) -> str:
    if report := _section(results, "report"):
        rows = [
            ("labelled target images", _count(report, "images")),
            ("top-1 before adaptation", _share(report, "source_only")),
            ("top-1 adapted", _share(report, "adapted")),
            ("top-1 of a net trained on target labels", _share(report, "oracle")),
        ]
    else:
        found = _section(results, "evaluation")
        rows = [
            ("held-out images", _count(found, "images")),
            ("top-1", _share(found, "top1")),
            ("top-5", _share(found, "top5")),
            ("NLL, nats", _decimal(found, "nll")),
            ("expected calibration error", _share(found, "ece")),
            *((f"recall of {_code(name)}", f"{recall:.2%}") for name, recall in _weakest(found)),
        ]
    rows = [(name, value) for name, value in rows if value]
    if not rows:
        return "Not measured: there was no labelled held-out split."
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _section(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _number(document: dict[str, Any], key: str) -> float | None:
    found = document.get(key)
    return float(found) if isinstance(found, int | float) else None


def _count(document: dict[str, Any], key: str) -> str:
    found = _number(document, key)
    return "" if found is None else f"{found:,.0f}"


def _share(document: dict[str, Any], key: str) -> str:
    found = _number(document, key)
    return "" if found is None else f"{found:.2%}"


def _decimal(document: dict[str, Any], key: str) -> str:
    found = _number(document, key)
    return "" if found is None else f"{found:.4f}"


def _weakest(found: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the classes that are recognised least, with their recall."""
    rows = [(name, row) for name, row in _section(found, "per_class").items() if isinstance(row, dict)]
    known = [(name, recall) for name, row in rows if (recall := _number(row, "recall")) is not None and recall < 1]
    return sorted(known, key=lambda row: row[1])[:_WEAKEST]


def _use(net: "Classifier", to: str, recipe: dict[str, Any]) -> str:
    import timm

    from limbeck.nets.hub import home_of

    limbeck_ = f"With Limbeck:\n\n```sh\nlimbeck predict {to} photo.jpg\n```"
    home = home_of(net.name)
    if home not in ("timm", "limbeck"):
        return f"{limbeck_}\n\ntimm does not load it: {_code(net.name)} is neither timm's nor Limbeck's."
    module = timm.model_entrypoint(net.name).__module__
    ours = f"import {module}  # makes timm know {net.name}\n" if home == "limbeck" else ""
    again = f"`limbeck {_verb(recipe)}"
    return f"""{limbeck_}

With timm:

```python
import timm
{ours}
model = timm.create_model({to!r}, pretrained=True).eval()
look = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
# model(look(image).unsqueeze(0)), of a PIL image in mode {"L" if net.input.channels == 1 else "RGB"}
```

`config.json` has the classes in the order of the outputs (`label_names`); `recipe.toml` has the settings of the
training, which {again} -c recipe.toml` repeats."""


def _lineage(
    net: "Classifier", recipe: dict[str, Any], results: dict[str, Any], environment: dict[str, Any], licence: str
) -> str:
    data, versions = _section(environment, "data"), _section(environment, "versions")
    tag = _plain(net.lineage.tag)
    lines = [
        f"- Weights: SHA-256 {_code(net.lineage.sha256)}.",
        f"- Began as: {tag if tag.endswith('random weights') else _origin(net.lineage)}.",
        f"- Trained on: {_count(data, 'images')} images of {_code(data.get('spec'))}, fingerprint "
        f"{_code(data.get('fingerprint'))}."
        if data
        else "- Trained on: not known.",
        *(f"- Teacher{_top1(results, place)}: {line}" for place, line in enumerate(_family(net.lineage))),
        f"- Seed: {_plain(recipe['seed'])}." if "seed" in recipe else "- Seed: not known.",
        f"- Made with: {', '.join(f'{_plain(name)} {_plain(value)}' for name, value in versions.items())}.",
        f"- Published with: Limbeck {__version__}.",
        f"- Licence of the weights: {_plain(licence) or 'none is stated by the publisher'}.",
    ]
    return "\n".join(line for line in lines if not line.endswith(": ."))


def _family(lineage: "Lineage") -> list[str]:
    """Return one line per teacher, its own teachers in it."""
    lines = []
    for teacher in lineage.teachers:
        own = f" Taught by: {' '.join(_family(teacher))}" if teacher.teachers else ""
        lines.append(f"{_origin(teacher)}, SHA-256 {_code(teacher.sha256)}.{own}")
    return lines


def _origin(lineage: "Lineage") -> str:
    data = f", data {_plain(lineage.data)}" if lineage.data else ""
    return f"{_plain(lineage.tag)}{data}, licence {_plain(lineage.licence) or 'unknown'}"


def _top1(results: dict[str, Any], place: int) -> str:
    """Return the held-out top-1 that the run wrote of its teacher in that place."""
    teachers = results.get("teachers")
    row = teachers[place] if isinstance(teachers, list) and place < len(teachers) else None
    known = isinstance(row, list) and len(row) == 2 and isinstance(row[1], int | float)
    return f" (top-1 {row[1]:.2%})" if known and row is not None else ""


def _limits(results: dict[str, Any]) -> str:
    lines = [
        "- One training with one seed: the figures above are of its held-out images alone. How good it is on images "
        "from elsewhere is not known; `limbeck evaluate` measures it, `limbeck adapt` helps.",
        "- It predicts one of its classes for every image, also for images of none of them.",
        "- It may have learned the errors and gaps of its teachers and their data.",
    ]
    if _section(results, "report"):
        lines.append("- It was adapted to one domain; on the domain that it came from it may have become worse.")
    return "\n".join(lines)
