"""`python -m crystallm` is the `crystallm` command."""

import sys

from crystallm.cli import main

if __name__ == "__main__":
    sys.exit(main())
