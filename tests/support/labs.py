"""Names for the labs of a test run, and an end for those of runs that were killed.

A lab's name is known to the whole machine, so two runs side by side need two names: a letter for the purpose and the
process id, in base 36 to fit into eight characters.  `Topology(name=lab_name("w"))`.
"""

import os
import re
from pathlib import Path

from felixlite.lab import world

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
OURS = re.compile(r"t[a-z]([0-9a-z]{5})")  # five digits hold the largest process id of Linux


def lab_name(purpose: str, pid: int | None = None) -> str:
    """For example `tw000rs`; the same purpose gives the same name throughout one run."""
    left, digits = pid or os.getpid(), ""
    for _ in range(5):
        left, digit = divmod(left, 36)
        digits = DIGITS[digit] + digits
    return f"t{purpose}{digits}"


def clean_leftovers() -> None:
    """Take down the labs of test runs whose process is gone."""
    labs = [path.name for path in world.RUN.iterdir()] if world.RUN.exists() else []
    for name in labs:
        if (ours := OURS.fullmatch(name)) and not Path(f"/proc/{int(ours[1], 36)}").exists():
            world.clean(name)
