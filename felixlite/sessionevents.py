"""A lost BGP session as a Kubernetes Event about this node, where somebody collects them.

Which changes are worth it and in which words: bgp/tell.py, as in the log.  Only what is bad is told: an Event costs the
API server a write.  A duty (duties.py): what could not be told because the server was away is told when it is back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from felixlite.bgp.tell import news
from felixlite.datastore import Announces
from felixlite.datastore.store import Key, Store
from felixlite.snapshot import SessionState, Snapshot

REASON = "BGPSessionDown"


@dataclass(slots=True)
class SessionEvents:
    store: Store
    public: Announces
    told: Mapping[str, SessionState] = field(default_factory=dict)

    def tell(self, known: Snapshot) -> None:
        bad = [each.sentence for each in news(self.told, known.sessions) if each.bad]
        if bad and (node := self.store.get(Key("Node", known.here))):
            self.public.warn(node, REASON, "; ".join(bad))
        self.told = known.sessions
