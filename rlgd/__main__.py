"""``python -m rlgd``."""

import sys

from rlgd.cli import main

sys.exit(main())
