"""A design made real: the only package that knows namespaces, processes and switch software."""

import os
import sys

# Run by root for a user, we leave nothing of root's in that user's folder.
if os.geteuid() == 0 and "SUDO_UID" in os.environ:
    sys.dont_write_bytecode = True
