"""`python -m hyperdpo` is the same program as `hyperdpo`."""

import sys

from hyperdpo.cli import main

if __name__ == "__main__":
    sys.exit(main())
