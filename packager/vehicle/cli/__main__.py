"""``python -m packager.vehicle.cli`` is ``packager-vehicle``."""

import sys

from packager.vehicle.cli.program import main

sys.exit(main())
