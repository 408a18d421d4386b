"""What carries IPIP on this machine, and the tables that make it do so. Between the agent and the two layers below,
which do not know each other: ipip/ has the programs and the process, kernel/ the links and classifiers.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from felixlite.health import Sample
from felixlite.ipip import ebpf
from felixlite.ipip.carrier import Choice, choose
from felixlite.ipip.plan import Carrier
from felixlite.ipip.userspace import Forwarders
from felixlite.kernel.classifiers import Classifiers, attached
from felixlite.kernel.host import Host
from felixlite.kernel.links import has_ipip
from felixlite.tables import Table


def chosen(host: Host, wanted: str = "Auto") -> Choice:
    return choose(lambda: has_ipip(host), ebpf.works, wanted)


def samples(tables: Iterable[Table[Any, Any]]) -> Iterator[Sample]:
    """What the programs counted, for whoever looks at metrics."""
    for table in tables:
        if isinstance(table, ebpf.Ends):
            for what, count in table.programs.counters().items():
                meaning = "Packets that the eBPF tunnel met; all but sent, received and rerouted were left or dropped."
                yield Sample("felixlite_ipip_packets", count, meaning, (("what", what),), kind="counter")


def tables(host: Host, carrier: Carrier, touched: Callable[[str], None]) -> list[Table[Any, Any]]:
    """In their order, after the links and before the routes. `touched` hears from other threads what to look at again.

    They are all there whatever the carrier, so that what another carrier left here before is cleared away; only a
    kernel that knows no programs has none of theirs.
    """
    forwarders = Forwarders(host.namespace, lambda: touched(Forwarders.name))
    if carrier is Carrier.USER_SPACE:
        return [forwarders]
    programs = ebpf.Programs(lambda: [found.program_id for found in attached(host)])
    if carrier is Carrier.KERNEL:
        return [Classifiers(host, programs.program), forwarders]
    return [ebpf.Ends(programs, host.index, host.name), Classifiers(host, programs.program), forwarders]
