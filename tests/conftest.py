"""What all tests share: one thread, one seed, tiny data."""

import os
from collections.abc import Callable, Generator
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start

import pytest
import torch

from limbeck.images.loader import Batch
from limbeck.images.views import Mix, Views

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Begin every test with the same random numbers."""
    torch.manual_seed(0)


MakeBatch = Callable[..., Batch]


@pytest.fixture
def make_batch() -> MakeBatch:
    """Return a function that draws a batch of 4x4 grey images and labels of three classes by a seed."""

    def made(seed: int = 0, count: int = 6, *, labelled: bool = True, mix: Mix | None = None) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 3, (count,), generator=generator)
        views = Views(torch.tensor([[0, 0, 4, 4]], dtype=torch.int16).repeat(count, 1), torch.zeros(count, dtype=bool))
        return Batch(images, labels if labelled else None, torch.arange(count), views, mix)

    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a test that is skipped under CI."""
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a failure of a file that is skipped under CI."""
    return _unskipped((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _unskipped(report: Report) -> Report:
    """Return the report with "failed" for "skipped" under CI, unless the processor is the reason."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "this processor" not in reason:
            report.outcome, report.longrepr = "failed", f"nothing may be skipped under CI; {reason}"
    return report
