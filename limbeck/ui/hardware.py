"""A Design that stays in its simulator from image to image."""

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import VerificationError
from limbeck.fpga.driver import Accelerator, DriverError
from limbeck.fpga.simulate import running
from limbeck.integer.program import Program, run


class Hardware:
    """The logits of a simulated Design, every score compared with its Program's. After a failure it starts anew."""

    def __init__(self, design: Path, simulator: Path, program: Program) -> None:
        self._design, self._simulator, self._program = design, simulator, program
        self._started = contextlib.ExitStack()
        self._accelerator: Accelerator | None = None

    def start(self) -> Accelerator:
        """Return the accelerator, its memories loaded."""
        if self._accelerator is None:
            port = self._started.enter_context(running(self._simulator))
            self._accelerator = Accelerator(port, self._design)
        return self._accelerator

    def close(self) -> None:
        """End the simulator."""
        self._accelerator = None
        self._started.close()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of uint8 images [N, channels, size, size]; VerificationError where a score is not
        the Program's, or the simulation ended."""
        try:
            scores, _ = self.start().run(images)
        except (VerificationError, DriverError, OSError) as error:
            self.close()
            raise VerificationError(f"the simulation ended ({error}) and begins anew with the next image") from error
        if (wrong := int((scores != run(self._program, images)).sum())) > 0:
            raise VerificationError(f"{wrong} of {scores.size} scores are not the Program's; compile the design again")
        return (scores * self._program.scale).astype(np.float32)
