"""`felixlite lab break`, `fix` and `bench`: what becomes of a rack when something in it fails."""

import json

import click

from felixlite.cli.lab_option import lab_name
from felixlite.errors import FelixliteError
from felixlite.lab import trial
from felixlite.lab.faults import FAULTS
from felixlite.lab.lab import Lab


@click.command(
    "break",
    short_help="Break something; how soon it is noticed and healed.",
    epilog="\b\n" + "\n".join(f"{fault.name:<10} {fault.what}" for fault in FAULTS.values()),
)
@lab_name
@click.argument("scenario", type=click.Choice(list(FAULTS)), metavar="SCENARIO")
def break_(name: str, scenario: str) -> None:
    """Break something, and say how long it took until an agent noticed, until it healed, and what was lost meanwhile.

    What does not heal without a person stays broken until `felixlite lab fix`.

    \b
    felixlite lab break route
    felixlite lab break link; felixlite lab ping; felixlite lab fix
    """
    chosen = trial.fault(scenario)
    click.echo(f"{chosen.what} ...")
    click.echo(trial.inflict(Lab.load(name), chosen).line())
    if chosen.repair:
        click.echo("it stays so until `felixlite lab fix`")


@click.command(short_help="Mend what `lab break` broke.")
@lab_name
def fix(name: str) -> None:
    """Mend what `lab break` broke, and say how long it took until all was whole again."""
    click.echo(trial.mend(Lab.load(name)).line())


@click.command(short_help="Every fault, one after the other.")
@lab_name
@click.option("--json", "as_json", is_flag=True)
@click.argument("scenarios", nargs=-1, type=click.Choice(list(FAULTS)), metavar="[SCENARIO]...")
def bench(name: str, as_json: bool, scenarios: tuple[str, ...]) -> int:
    """Every fault (or those named), one after the other: broken, noticed, mended. Exit code: how many did not heal.

    \b
    felixlite lab up --members 3 --hold 9
    felixlite lab bench
    """
    found = Lab.load(name)
    outcomes, failures = [], []
    for scenario in scenarios or FAULTS:
        try:
            outcomes.append(trial.whole(found, trial.fault(scenario)))
            told = outcomes[-1].line()
        except FelixliteError as error:
            failures.append(scenario)
            told = f"{scenario:<10} {error}"
        click.echo(told, err=as_json)
    if as_json:
        fields = ("fault", "detected", "healed", "sent", "lost")
        click.echo(json.dumps([{name: getattr(each, name) for name in fields} for each in outcomes], indent=2))
    return len(failures)
