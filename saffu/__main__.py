"""``python -m saffu``: the command line."""

import sys

from saffu.cli import main

sys.exit(main())
