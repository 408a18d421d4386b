"""Answers that are about no object: versions, discovery, OpenAPI, health. Pure."""

import felixlite
from felixlite.apiserver import discovery, openapi, openapi_proto
from felixlite.apiserver.answers import JSON, Answer, encoded
from felixlite.apiserver.requests import Request
from felixlite.datastore.store import Document

KUBERNETES = "v1.32.0"  # whose ways are followed; clients ask for it


def page(request: Request) -> Answer | None:
    """None: there is no such page."""
    steps = [step for step in request.path.split("/") if step]
    match steps:
        case ["healthz" | "livez" | "readyz", *_]:
            return Answer(200, b"ok", "text/plain")
        case ["openapi", version, *rest]:
            return _openapi(request, version, "/".join(rest))
        case ["api"] | ["apis"] if chosen := _aggregation(request):
            found = discovery.aggregated(core=steps == ["api"], version=chosen)
            kind = f"{JSON};g=apidiscovery.k8s.io;v={chosen};as=APIGroupDiscoveryList"
            return Answer(200, encoded(request, found), kind)
        case _:
            document = _document(request, steps)
            return Answer(200, encoded(request, document)) if document else None


def _document(request: Request, steps: list[str]) -> Document | None:
    match steps:
        case ["version"]:
            return version()
        case ["api"]:
            return discovery.legacy_versions(request.headers.get("host", ""))
        case ["apis"]:
            return discovery.group_list()
        case ["api", version_]:
            return discovery.resource_list("", version_)
        case ["apis", group]:
            return discovery.group(group)
        case ["apis", group, version_]:
            return discovery.resource_list(group, version_)
        case _:
            return None


def _openapi(request: Request, version: str, path: str) -> Answer | None:
    if version == "v3":
        found = openapi.group_document(path) if path else encoded(request, openapi.index())
        return Answer(200, found) if found else None
    if version != "v2" or path:
        return None
    if any(kind in request.accept for kind in openapi_proto.ASKED_AS):
        return Answer(200, openapi.v2_protobuf(), openapi_proto.CONTENT_TYPE)
    return Answer(200, openapi.v2_json())


def version() -> Document:
    _, minor, _ = KUBERNETES.split(".")
    return {
        "major": "1",
        "minor": minor,
        "gitVersion": f"{KUBERNETES}+felixlite.{felixlite.__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "",
        "platform": "",
    }


def _aggregation(request: Request) -> str:
    for part in request.accept.split(","):
        words = {word.strip() for word in part.split(";")}
        if "as=APIGroupDiscoveryList" in words:
            chosen = next((word[2:] for word in words if word.startswith("v=")), "")
            if chosen in ("v2", "v2beta1"):
                return chosen
    return ""
