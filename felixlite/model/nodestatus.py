"""CalicoNodeStatus: what an agent reports about its node's BGP and routes when somebody asks. Reference 2.19."""

from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.model import inside
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Model

Number = Annotated[int, Field(ge=0)]


class CalicoNodeStatusSpec(Spec):
    node: Annotated[str, Field(min_length=1, description="The node to report about.")]
    classes: Annotated[list[Literal["Agent", "BGP", "Routes"]], Field(description="What to report.")] = Field(
        default_factory=list
    )
    updatePeriodSeconds: Annotated[int, Field(ge=0, le=86_400, description="How often; 0: no more.")]


class BirdStatus(Model):
    state: Literal["Ready", "NotReady"] | None = None
    version: str = ""
    routerID: str = ""
    lastBootTime: str = ""
    lastReconfigurationTime: str = ""


class AgentStatus(Model):
    birdV4: BirdStatus | None = None
    birdV6: BirdStatus | None = None


class PeerStatus(Model):
    peerIP: str
    type: Literal["NodeMesh", "NodePeer", "GlobalPeer"] | None = None
    state: str = ""
    since: str = ""


class BgpStatus(Model):
    numberEstablishedV4: Number = 0
    numberNotEstablishedV4: Number = 0
    numberEstablishedV6: Number = 0
    numberNotEstablishedV6: Number = 0
    peersV4: list[PeerStatus] = Field(default_factory=list)
    peersV6: list[PeerStatus] = Field(default_factory=list)


class LearnedFrom(Model):
    sourceType: Literal["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"] | None = None
    peerIP: str = ""


class RouteStatus(Model):
    type: Literal["FIB", "RIB"] | None = None
    destination: str
    gateway: str = ""
    interface: str = ""
    learnedFrom: LearnedFrom | None = None


class RoutesStatus(Model):
    routesV4: list[RouteStatus] = Field(default_factory=list)
    routesV6: list[RouteStatus] = Field(default_factory=list)


class NodeReport(Model):
    lastUpdated: Any = None
    agent: AgentStatus | None = None
    bgp: BgpStatus | None = None
    routes: RoutesStatus | None = None


class CalicoNodeStatus(Resource):
    """Asks the agent of a node for its state, and holds the answer."""

    spec: CalicoNodeStatusSpec
    status: NodeReport | None = None

    def inside(self) -> inside.StatusRequest:
        return inside.StatusRequest(self.spec.node, frozenset(self.spec.classes), self.spec.updatePeriodSeconds)
