"""python -m limbeck, which torchrun -m limbeck needs."""

import sys

from limbeck.cli import main

sys.exit(main())
