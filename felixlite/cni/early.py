"""A pod's pair, made while the store writes its address down: both take a millisecond or two, side by side.

Only the plain case is begun early, where nothing has the names.  The address that it is made with is not the pod's until
the store says so, and that is no harm: until the core has heard of the pod, the dispatch drops all that comes from the
link, and the host has no route to it.  When the pod gets another address after all, the pair is made anew.
"""

from collections.abc import Sequence
from dataclasses import replace

from felixlite.addresses import Prefix
from felixlite.cni import wiring
from felixlite.cni.looking import PodEnd
from felixlite.snapshot import LinkState


class Early:
    """The pair of one ADD; `namespace` stays open until it is done."""

    def __init__(self, name: str, namespace: int, pod: PodEnd) -> None:
        self._name, self._namespace, self._pod = name, namespace, pod
        self._link: LinkState | None = None
        self._problem: Exception | None = None
        self._tried = False

    def plan(self, addresses: Sequence[Prefix]) -> None:
        """The store is about to be asked for these."""
        if not self._tried:
            self._pod = replace(self._pod, addresses=addresses)

    def begin(self) -> None:
        """The store is at work. Raises nothing: what it answers has to be heard first."""
        if self._tried:
            return
        self._tried = True
        try:
            self._link = wiring.begin(self._name, self._namespace, self._pod)
        except Exception as problem:  # noqa: BLE001  `get` raises it, where what was assigned is given back
            self._problem = problem

    @property
    def is_there(self) -> bool:
        return self._link is not None

    def get(self, addresses: Sequence[Prefix], elsewhere: wiring.Elsewhere) -> LinkState:
        """The host's end of the pair, for a pod with these addresses."""
        if self._problem:
            raise self._problem
        if self._link and self._pod.addresses == addresses:
            wiring.wait_until_local(self._namespace, self._pod)
            return self._link
        if self._link:
            wiring.detach(self._name)
        return wiring.make(self._name, self._namespace, replace(self._pod, addresses=addresses), elsewhere)
