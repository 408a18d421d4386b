"""libnftables in several threads of one process: the agent writes policy in one and looks for foreign NAT in another."""

import subprocess
import sys

from felixlite.kernel.namespaces import visiting
from tests.support.netns import namespace

LISTS = """
import threading
from felixlite.policy.nftables import Ruleset

done = threading.Event()

def come_and_go():
    while not done.is_set():
        Ruleset().close()

other = threading.Thread(target=come_and_go)
other.start()
ruleset = Ruleset()
for _ in range(100):
    ruleset.run("list table ip t")
done.set()
other.join()
print("all are back")
"""


def test_threads_that_list_rules_on_interfaces_do_not_end_the_process() -> None:
    with namespace("fp-thr") as net:
        for number in range(100):
            net.ip(f"link add b{number} type bridge")
        rules = "\n".join("add rule ip t c iif lo drop" for _ in range(200))
        net.command("nft", f"add table ip t\nadd chain ip t c\n{rules}")
        with visiting(net.fd):
            done = subprocess.run([sys.executable, "-c", LISTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all are back\n"), done.stderr
