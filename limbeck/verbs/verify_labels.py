"""limbeck verify-labels."""

from limbeck import runs
from limbeck.runs import Tell
from limbeck.training.settings import Loading, Training, keywords
from limbeck.training.stores import Verified, verify


@keywords
def verify_labels(
    store: str,
    *,
    data: str = "",
    teachers: tuple[str, ...] = (),
    compile_teachers: bool = False,
    limit: int | None = None,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Verified:
    """Evaluate the teachers again on a random sample of a label store's views, and compare.

    The exit code is 3 where their predictions or their weights differ.

    Examples:
        limbeck verify-labels labels --data photos/ --teachers runs/t1 runs/t2

    Args:
        store: A folder that limbeck label wrote.
        data: Where the images are; what a store names is not opened automatically, except for the built-in digits.
        teachers: Where the teachers are, all of them, in the store's order.
        compile_teachers: Compile the teachers (torch.compile): it takes minutes to start and then runs faster.
        limit: The --limit that the store was made with.
        batch: Views per batch of the teachers.
        loading: How images are read.
    """
    training = Training(batch=batch, limit=limit, **vars(loading))
    return verify(store, data, teachers, training, compiled=compile_teachers)
