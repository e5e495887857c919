"""limbeck push."""

from limbeck import runs
from limbeck.artefacts.repository import Pushed, publish
from limbeck.runs import Tell


def push(
    run: str,
    *,
    to: str,
    beside: tuple[str, ...] = (),
    licence: str = "",
    private: bool = False,
    tell: Tell = runs.silent,
) -> Pushed:
    """Publish a run as a model repository, on the hub or in a folder.

    The repository holds weights, timm's config.json, recipe, results and a model card. limbeck loads it by the name
    that --to has; so does timm.create_model, for nets that timm or limbeck defines. Both are tried before anything is
    uploaded: their logits must be the run's. On the hub everything arrives in one commit.

    Examples:
        limbeck push runs/s --to hf-hub:USER/NAME
        limbeck push runs/s --to local-dir:published --licence apache-2.0 --beside s.program s.onnx

    Args:
        run: The run folder of teach, distill or adapt.
        to: hf-hub:USER/NAME, which needs a token (hf auth login, or HF_TOKEN), or local-dir:PATH, a new folder.
        beside: Further files to include, such as a Program and an ONNX file.
        licence: Licence of the weights, as the hub writes it (apache-2.0, cc-by-nc-4.0, ...); without it the card says
            that none is stated.
        private: Make the repository on the hub visible to you alone. One that exists already keeps its visibility.
    """
    return publish(run, to, beside, licence, private=private, tell=tell)
