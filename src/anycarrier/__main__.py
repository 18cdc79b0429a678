"""``python -m anycarrier`` is ``anycarrier``."""

import sys

from anycarrier.cli import main

if __name__ == "__main__":
    sys.exit(main())
