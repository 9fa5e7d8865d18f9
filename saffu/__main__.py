"""The command: ``saffu`` and ``python -m saffu``."""

import sys

from saffu.utils import interrupts as _interrupts


def main() -> int:
    """Run the command line in a process of its own; return its exit code."""
    _interrupts.leave_at_once()
    _interrupts.open_closed_streams()
    from saffu.cli import main as cli

    return _interrupts.Watch().run(cli.main)


if __name__ == "__main__":
    sys.exit(main())
