"""`python -m coby.simulator`."""

import sys

from coby.simulator.command import main

sys.exit(main())
