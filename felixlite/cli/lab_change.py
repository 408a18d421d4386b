"""`felixlite lab pod` and `felixlite lab node`: a running lab grows and shrinks."""

import click

from felixlite.cli.lab_option import lab_name
from felixlite.errors import FelixliteError
from felixlite.lab.lab import Lab


@click.group()
def pod() -> None:
    """Add, remove and label pods of a running lab."""


@pod.command("add")
@lab_name
@click.argument("node")
@click.argument("pod_name")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE")
def pod_add(name: str, node: str, pod_name: str, labels: tuple[str, ...]) -> None:
    """A new pod on NODE, through the CNI plugin."""
    found = Lab.load(name)
    if any(existing.name == pod_name for existing in found.pods()):
        raise FelixliteError(f"there is a pod {pod_name!r} already")
    if wrong := [label for label in labels if "=" not in label]:
        raise click.BadParameter(f"{wrong[0]!r}: must be KEY=VALUE", param_hint="--label")
    made = found.add_pod(found.machine(node), pod_name, dict(label.split("=", 1) for label in labels))
    click.echo(f"{made.name} {made.address} on {made.node}")


@pod.command("rm")
@lab_name
@click.argument("pod_name")
def pod_rm(name: str, pod_name: str) -> None:
    """Remove a pod, through the CNI plugin."""
    Lab.load(name).remove_pod(pod_name)


@pod.command("label")
@lab_name
@click.argument("pod_name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def pod_label(name: str, pod_name: str, labels: tuple[str, ...]) -> None:
    """Set labels of a pod, or remove them: policies follow at once.

    \b
    felixlite lab pod label n1-a role=web tier-
    """
    if wrong := [label for label in labels if "=" not in label and not label.endswith("-")]:
        raise click.BadParameter(f"{wrong[0]!r}: must be KEY=VALUE or KEY-", param_hint="KEY=VALUE")
    made = Lab.load(name).label_pod(pod_name, labels)
    click.echo(f"{made.name} {' '.join(f'{key}={value}' for key, value in sorted(made.labels.items()))}")


@click.group()
def node() -> None:
    """Add nodes to a running lab and remove them."""


@node.command("add")
@lab_name
def node_add(name: str) -> None:
    """One more node, on the subnet whose turn it is, with as many pods as the others."""
    found = Lab.load(name, say=click.echo)
    made = found.add_node()
    found.wait_until_green()
    click.echo(f"{made.name} {made.address}")


@node.command("rm")
@lab_name
@click.argument("node_name")
def node_rm(name: str, node_name: str) -> None:
    """Remove a node with its pods, and what the store has about it."""
    found = Lab.load(name, say=click.echo)
    found.remove_node(found.machine(node_name))
    found.wait_until_green()
