"""``python -m linecard`` is ``linecard``."""

import sys

from linecard.cli import main

if __name__ == "__main__":
    sys.exit(main())
