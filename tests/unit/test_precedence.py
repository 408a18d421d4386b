"""Who gives way, and until when."""

import threading
from contextlib import suppress
from pathlib import Path

from felixlite.precedence import Precedence

LONG = 60.0


def gives_way(precedence: Precedence) -> threading.Thread:
    thread = threading.Thread(target=precedence.give_way, daemon=True)
    thread.start()
    return thread


def test_nobody_waits_where_nobody_is_waited_for():
    precedence = Precedence(LONG)
    precedence.give_way()
    with precedence.taken():
        pass
    precedence.give_way()


def test_who_listens_waits_until_the_last_one_is_done():
    precedence = Precedence(LONG)
    with precedence.taken():
        with precedence.taken():
            listener = gives_way(precedence)
        listener.join(0.05)
        assert listener.is_alive()
    listener.join(LONG)
    assert not listener.is_alive()


def test_an_error_of_the_one_who_is_waited_for_ends_it_too():
    precedence = Precedence(LONG)
    with suppress(OSError), precedence.taken():
        Path("/nowhere").read_text()
    precedence.give_way()


def test_the_moment_is_over_though_somebody_is_still_waited_for():
    precedence = Precedence(0.01)
    with precedence.taken():
        gives_way(precedence).join(LONG)
        precedence.give_way()
