"""Which form of the tests under load is asked for: the short one of every test run, or with ``--full`` the long one."""

import sys

FULL = "--full" in sys.argv
