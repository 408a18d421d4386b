"""Datagrams from one pod to another, a thousand a second on a flow that is old and a thousand on flows that are new.

    python -m bench._flow receive 10.65.0.1                # until its input ends; prints how many of each have come
    python -m bench._flow send 10.65.0.2 10.65.0.1         # until its input ends; prints how many of each it has sent,
                                                           # and meanwhile a line for every hundred

Processes of their own: what is measured must not wait for who measures.
"""

import select
import socket
import sys
import threading
import time

PORT, OLD = 1000, 9999
RATE = 1000


def receive(own: str) -> str:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    found: set[bytes] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        listening.bind((own, PORT))
        print("listening", flush=True)
        while True:
            if select.select([listening], [], [], 0.05)[0]:
                found.add(listening.recv(64))
            elif ended.is_set():  # and what was under way is read
                break
    old = sum(number.startswith(b"o") for number in found)
    return f"{old} {len(found) - old}"


def send(own: str, target: str) -> str:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    number, begin = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind((own, OLD))
        while not ended.is_set():
            old.sendto(b"o%d" % number, (target, PORT))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
                new.bind((own, 10_000 + number % 50_000))
                new.sendto(b"n%d" % number, (target, PORT))
            number += 1
            if number % 100 == 0:
                print(number, flush=True)
            time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
    return f"{number} {number}"


if __name__ == "__main__":
    print({"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:]), flush=True)
