"""Run the command line: ``python -m pixal``."""

import sys

from pixal.cli import main

if __name__ == "__main__":
    sys.exit(main())
