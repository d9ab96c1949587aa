"""``python -m rlgd``."""

import sys

from rlgd.cli.main import main

sys.exit(main())
