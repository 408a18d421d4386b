"""`felixlite lab tour` and `picture`: the mechanism of a lab that is up, step by step and at a glance."""

import textwrap

import click

from felixlite.cli.lab_option import lab_name
from felixlite.lab.lab import Lab
from felixlite.lab.tour import STEPS, Shown, Step, prepared, walked


@click.command(short_help="A guided walk through the mechanism.")
@lab_name
@click.option("--no-pause", is_flag=True, help="Go on without waiting for Enter.")
@click.option("--markdown", is_flag=True, help="As docs/tour.md; implies --no-pause.")
def tour(name: str, no_pause: bool, markdown: bool) -> None:
    """A guided walk: each step with its commands, their real output, and what to look at.

    \b
    felixlite lab up
    felixlite lab tour
    """
    lab = Lab.load(name)
    names = prepared(lab)
    if markdown:
        click.echo("# A walk through the lab\n\nEverything below was typed in a lab fresh from `felixlite lab up`, by")
        click.echo("`felixlite lab tour --markdown`; without the option it walks with you.")
    for number, step in enumerate(STEPS, 1):
        _head(number, step, markdown=markdown)
        if step.meanwhile:
            click.echo(f"\nMeanwhile, in another terminal: `felixlite lab {step.meanwhile.format(**names)}`")
        for shown in walked(lab, step, names):
            _command(shown, markdown=markdown)
        if not (no_pause or markdown) and number < len(STEPS):
            click.prompt("\nEnter to go on", default="", show_default=False, prompt_suffix="")


@click.command()
@lab_name
def picture(name: str) -> None:
    """A picture of the lab as SVG: machines, cables, addresses, blocks, and how n1 reaches the others.

    \b
    felixlite lab picture >lab.svg
    """
    from felixlite.lab.picture import picture as made

    click.echo(made(Lab.load(name)), nl=False)


def _head(number: int, step: Step, *, markdown: bool) -> None:
    if markdown:
        click.echo(f"\n## {number}. {step.title}\n\n{textwrap.fill(step.look, 120)}")
    else:
        click.secho(f"\n{number} of {len(STEPS)}: {step.title}", bold=True)
        click.echo(textwrap.fill(step.look, 100))


def _command(shown: Shown, *, markdown: bool) -> None:
    failed = f"\n(exit code {shown.code})" if shown.code else ""
    if markdown:
        click.echo(f"\n```\n$ {shown.command}\n{shown.output}{failed}\n```")
    else:
        click.secho(f"\n$ {shown.command}", bold=True)
        click.echo(shown.output + failed)
