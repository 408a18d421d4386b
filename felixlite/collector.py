"""Python's collector of cycles, out of the way while much is made that stays. Pure.

It walks what is alive each time that so and so many objects more have been made than given up: a hundred thousand new
rows, and no cycle among them, would make it walk the whole heap dozens of times.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
