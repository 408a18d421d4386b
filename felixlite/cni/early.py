"""A pod's pair, made while the store writes its address down: both take a millisecond, and neither needs the other.

Only the plain case is begun early, where nothing has the names.  An address that turns out to be another one is no harm:
it is put on the pair afterwards, and until then the pod cannot send, nor has the host a route to it.
"""

from felixlite.cni import wiring
from felixlite.cni.errors import CniError
from felixlite.cni.looking import PodEnd


class Early:
    """The pair of one ADD; `namespace` stays open until get or drop."""

    def __init__(self, name: str, namespace: int, pod: PodEnd) -> None:
        self._name, self._namespace, self._pod = name, namespace, pod
        self._begun = False
        self._pair: wiring.Pair | None = None
        self._problem: CniError | None = None

    def begin(self) -> None:
        """Raises nothing: whoever is asked for the address meanwhile has to be heard out."""
        if self._begun:
            return
        self._begun = True
        try:
            self._pair = wiring.begin(self._name, self._namespace, self._pod)
        except CniError as problem:
            self._problem = problem

    def get(self, pod: PodEnd, elsewhere: wiring.Elsewhere) -> wiring.Pair:
        """The pair for the pod with its addresses; made now if it could not be begun, or was begun for other families."""
        if self._problem:
            raise self._problem
        if self._pair and pod.families <= self._pair.families:
            return self._pair
        self.drop()
        return wiring.make(self._name, self._namespace, pod, elsewhere)

    def drop(self) -> bool:
        """It is not wanted. Whether there is a pair that has to go."""
        if self._pair:
            self._pair.inside.close()
        return self._pair is not None
