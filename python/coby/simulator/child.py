"""`python -m coby.simulator.child`: `coby simulate` that ends with the process that started it, however that ends.

Nobody writes to its standard input: it is the parent's end of a pipe, and closes when the parent is gone.
"""

import os
import sys
import threading

from coby.simulator.command import main


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.exit(main())
