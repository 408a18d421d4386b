"""What carries IPIP on this machine: the kernel's device, the programs, or a process. Chosen once, at start.

`has_device` and `programs_fail` ask the machine; here is only the order of preference, and what a person is told.
"""

from collections.abc import Callable
from typing import NamedTuple

from felixlite.ipip.plan import Carrier


class Choice(NamedTuple):
    carrier: Carrier
    warning: str = ""


def choose(has_device: Callable[[], bool], programs_fail: Callable[[], str], wanted: str = "Auto") -> Choice:
    """`wanted` is Auto or the name of a carrier; one that is named is not second-guessed."""
    named = {carrier.value.replace(" ", "").lower(): carrier for carrier in Carrier}
    if carrier := named.get(wanted.replace(" ", "").lower()):
        return Choice(carrier, _slow("as the configuration says") if carrier is Carrier.USER_SPACE else "")
    if has_device():
        return Choice(Carrier.KERNEL)
    if problem := programs_fail():
        return Choice(Carrier.USER_SPACE, _slow(f"the kernel has no ipip and refuses our programs ({problem})"))
    return Choice(Carrier.EBPF)


def _slow(reason: str) -> str:
    return f"IPIP runs in user space, {reason}: expect a tenth of the usual speed; vxlanMode does without it"
