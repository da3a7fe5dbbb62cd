"""Which tests of the catalogue the ordinary run plays in containers.

Faults of wires, queues and cards are the soft ASIC's and rnic's, which are the same on both backends; so is the journal
that a killed injector leaves. What is another in a container is how nodes stop and daemons start: that is tested on
both. The rest is the nightly run's there (RAILBED_NIGHTLY=1), which plays every row of the catalogue on each.
"""

from __future__ import annotations

import os

NIGHTLY = os.environ.get("RAILBED_NIGHTLY") == "1"
IN_CONTAINERS = os.environ.get("RAILBED_LAB_BACKEND") == "containerlab"
THE_SAME_ON_BOTH = ["test_killed_injector.py", "test_wires.py", "test_qos_faults.py", "test_hash_polarisation.py"]
THE_SAME_ON_BOTH += ["test_cabling_unnumbered.py"]

collect_ignore = THE_SAME_ON_BOTH if IN_CONTAINERS and not NIGHTLY else []
