"""`python -m felixlite.cli.lab_verdicts URL PORT`: for `lab ping`, which asks about many pairs from outside of the lab.

Pairs of addresses as JSON on stdin, and for each pair what policy says about a UDP datagram to that port on stdout.
"""

import json
import sys

from felixlite.cli.connection import judged
from felixlite.cli.session import Session


def main(url: str, port: str) -> None:
    session = Session(url=url)
    try:
        found = judged(session, json.load(sys.stdin), "UDP", int(port))
    finally:
        session.close()
    print(json.dumps([{"action": each["action"], "by": each["decided_by"]} for each in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
