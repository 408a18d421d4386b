"""A program: say when the main table of its network namespace holds so many prefixes, by asking every few milliseconds.

    python bench/_counting.py NUMBER [CONTROL-SOCKET-OF-BIRD]

It says `ready`, and then, on a line, the time at which there were at least NUMBER (for 0: fewer than 100).  A process of
its own, so that the looking takes no time from the one that is looked at.  BIRD as the announcer holds back its last
UPDATE until something wakes it, also towards BIRD as the receiver: its control socket is knocked on.
"""

import os
import re
import socket
import sys
import time

PAUSE = 0.01


def main() -> None:
    wanted, knock = int(sys.argv[1]), sys.argv[2:]
    table = os.open("/proc/self/net/fib_triestat", os.O_RDONLY)
    deadline = time.time() + 120
    print("ready", flush=True)
    while time.time() < deadline:
        for path in knock:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(path)
                control.sendall(b"show status\n")
                control.recv(4096)
        found = re.search(rb"Main:.*?Prefixes:\s+(\d+)", os.pread(table, 1 << 16, 0), re.DOTALL)
        count = int(found[1]) if found else 0
        if count >= wanted if wanted else count < 100:
            print(time.time(), flush=True)
            return
        time.sleep(PAUSE)
    sys.exit(f"{count} of {wanted} routes")


if __name__ == "__main__":
    main()
