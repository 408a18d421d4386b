"""FelixConfiguration, ClusterInformation, KubeControllersConfiguration. Reference 2.17, 2.18, 2.21, 8.

What a setting of FelixConfiguration is, felixlite/config.py says once for flags, environment and documents alike; here
it becomes a field.  Fields of Calico that mean nothing to this agent are kept and named in a warning.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, create_model

from felixlite.config import SETTINGS, Setting, boolean, fault_of_ttl
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Duration, Severity, Switch

_JSON_TYPES: dict[type, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    float: {"type": "string", "format": "duration"},
}


def _checked(setting: Setting) -> Callable[[Any], Any]:
    def check(given: Any) -> Any:
        try:
            setting.parse(given)
        except ValueError as error:
            raise ValueError(f"must be {error}") from None
        return given

    return check


def _field(setting: Setting) -> Any:
    schema = _JSON_TYPES.get(type(setting.default), {"x-kubernetes-preserve-unknown-fields": True})
    return (
        Annotated[Any, PlainValidator(_checked(setting)), WithJsonSchema(schema)],
        Field(default=None, description=f"{setting.meaning[0].upper()}{setting.meaning[1:]}."),
    )


class _FelixSpec(Spec):
    @rule
    def a_ttl_of_its_own_comes_with_df(self) -> Iterator[Fault]:
        given = dict(self)
        ttl, pmtu_discovery = given.get("ipipTTL"), given.get("ipipPMTUDiscovery")
        if fault := fault_of_ttl(int(ttl or 0), pmtu_discovery is not None and boolean(pmtu_discovery)):
            yield Fault("ipipTTL", ttl, fault)


FelixConfigurationSpec = create_model(
    "FelixConfigurationSpec",
    __base__=_FelixSpec,
    __module__=__name__,
    **{setting.name: _field(setting) for setting in SETTINGS},
)


class FelixConfiguration(Resource):
    """Settings of the agents; `default` for all, `node.NAME` for one node."""

    spec: FelixConfigurationSpec = Field(default_factory=FelixConfigurationSpec)  # type: ignore[valid-type]  # made above


class ClusterInformationSpec(Spec):
    clusterGUID: Annotated[str, Field(description="What this cluster is told apart by.")] = ""
    clusterType: Annotated[str, Field(description="What the cluster is made of, separated by commas.")] = ""
    calicoVersion: Annotated[str, Field(description="The version that last wrote here.")] = ""
    datastoreReady: Annotated[bool | None, Field(description="False: all components pause.")] = None
    variant: Annotated[str, Field(description="Calico, in clusters of its.")] = ""


class ClusterInformation(Resource):
    """What all components know of the cluster; there is one, `default`."""

    spec: ClusterInformationSpec = Field(default_factory=ClusterInformationSpec)

    @rule
    def there_is_one(self) -> Iterator[Fault]:
        yield from only_default(self)


class HostEndpointTemplate(Model):
    generateName: Annotated[str, Field(min_length=1)]
    interfaceCIDRs: list[str] = Field(default_factory=list)
    interfacePattern: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    nodeSelector: str = ""


class AutoHostEndpoint(Model):
    autoCreate: Switch = "Disabled"
    createDefaultHostEndpoint: Switch = "Enabled"
    templates: list[HostEndpointTemplate] = Field(default_factory=list)


class NodeController(Model):
    reconcilerPeriod: Duration = 300.0
    syncLabels: Annotated[Switch, Field(description="Copy the labels of Kubernetes' nodes.")] = "Enabled"
    hostEndpoint: AutoHostEndpoint | None = None
    leakGracePeriod: Annotated[Duration, Field(description="How long an address may seem lost; 0s: for ever.")] = 900.0


class PlainController(Model):
    reconcilerPeriod: Duration = 300.0


class LoadBalancerController(Model):
    assignIPs: Literal["AllServices", "RequestedServicesOnly"] = "AllServices"


class MigrationController(Model):
    policyNameMigrator: Switch = "Enabled"


class Controllers(Model):
    node: NodeController | None = None
    policy: PlainController | None = None
    workloadEndpoint: PlainController | None = None
    serviceAccount: PlainController | None = None
    namespace: PlainController | None = None
    loadBalancer: LoadBalancerController | None = None
    migration: MigrationController | None = None


class KubeControllersConfigurationSpec(Spec):
    logSeverityScreen: Annotated[Severity, Field(description="What the controllers log.")] = "Info"
    healthChecks: Annotated[Switch, Field(description="Serve their health.")] = "Enabled"
    etcdV3CompactionPeriod: Annotated[Duration, Field(description="How often etcd is compacted; 0: never.")] = 600.0
    prometheusMetricsPort: Annotated[int, Field(ge=0, le=65535, description="0: none.")] = 9094
    debugProfilePort: Annotated[int | None, Field(ge=0, le=65535, description="Means nothing here.")] = None
    controllers: Annotated[Controllers, Field(description="Settings of each.")] = Field(default_factory=Controllers)


class KubeControllersConfiguration(Resource):
    """Settings of the controllers; there is one, `default`."""

    spec: KubeControllersConfigurationSpec = Field(default_factory=KubeControllersConfigurationSpec)
    status: dict[str, Any] | None = None

    @rule
    def there_is_one(self) -> Iterator[Fault]:
        yield from only_default(self)


def only_default(resource: Resource) -> Iterator[Fault]:
    if resource.name != "default":
        yield Fault("metadata.name", resource.name, "must be default: there is one for the cluster")
