"""How long to wait before what failed is tried again: twice as long after each attempt, up to a limit. Pure."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 10.0


def pause(attempts: int) -> float:
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 20)))
