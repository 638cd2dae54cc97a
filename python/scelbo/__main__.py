"""``python -m scelbo``: the command line, where the script ``scelbo`` is not on the path."""

import sys

from scelbo.cli import main

if __name__ == "__main__":
    sys.exit(main())
