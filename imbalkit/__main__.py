"""``python -m imbalkit`` is the command ``imbalkit``."""

import sys

from imbalkit.cli import main

sys.exit(main())
