"""A pod's pair, made while the store still writes its address down: both take a millisecond or two, and neither needs the other.

Only the plain case is begun early, where nothing has the names.  An address that turns out to be another one is no harm:
it is put on the pair afterwards, and until then the pod cannot send, nor has the host a route to it.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from felixlite.addresses import Prefix
from felixlite.cni import wiring
from felixlite.cni.errors import CniError
from felixlite.cni.looking import PodEnd


class Early:
    """The pair of one ADD. Belongs to the thread that works on it; `namespace` stays open until get or drop."""

    def __init__(self, threads: ThreadPoolExecutor, name: str, namespace: int, pod: PodEnd) -> None:
        self._threads, self._name, self._namespace, self._pod = threads, name, namespace, pod
        self._begun: Future[wiring.Pair | None] | None = None

    def begin(self, addresses: Sequence[Prefix]) -> None:
        """Once; `addresses` say which families the pod will have."""
        if self._begun is None:
            self._pod = replace(self._pod, addresses=addresses)
            self._begun = self._threads.submit(wiring.begin, self._name, self._namespace, self._pod)

    def get(self, addresses: Sequence[Prefix], elsewhere: wiring.Elsewhere) -> wiring.Pair:
        """The pair; made now if it could not be begun, or was begun for other families."""
        pair = self._begun.result() if self._begun else None
        pod = replace(self._pod, addresses=addresses)
        if pair and pod.families <= self._pod.families:
            return pair
        if pair:
            pair.inside.close()
        return wiring.make(self._name, self._namespace, pod, elsewhere)

    def drop(self) -> bool:
        """There is no address for it. Whether there is a pair that has to go again."""
        if self._begun is None:
            return False
        with suppress(CniError):  # what the assignment said is what the runtime is told
            if pair := self._begun.result():
                pair.inside.close()
                return True
        return False
