"""A fault is inflicted and mended, with probes between all pods meanwhile: how long until it was noticed, how long until
all was whole again, and what was lost.

Between `lab break` and `lab fix` the lab's folder remembers which fault there is.  Times are those of a watcher who asks
every few milliseconds, so they include his question.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.faults import FAULTS, Fault, Kept
from felixlite.lab.lab import Lab
from felixlite.lab.traffic import Traffic

NOTICED_WITHIN = 300.0  # the hold time of a session is what takes longest
WARM = 0.3  # seconds of probes before and after


@dataclass(frozen=True, slots=True)
class Outcome:
    fault: str
    detected: float | None = None  # seconds
    healed: float | None = None
    sent: int = 0
    lost: int = 0

    def line(self) -> str:
        lost = f"{self.lost} of {self.sent} packets lost" if self.sent else "no packet was sent"
        return f"{self.fault:<10} detected after {_ms(self.detected)}  healed after {_ms(self.healed)}  {lost}"


def _ms(seconds: float | None) -> str:
    return f"{seconds * 1000:7.0f} ms" if seconds is not None else "         -"


def fault(name: str) -> Fault:
    if name not in FAULTS:
        raise FelixliteError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    return FAULTS[name]


def inflict(lab: Lab, chosen: Fault) -> Outcome:
    """Break it and wait until it is noticed; until it is whole again, if nobody has to mend it."""
    if _note(lab).exists():
        raise FelixliteError(f"{_broken(lab)[0].name!r} is broken already: `felixlite lab fix` first")
    with _probed(lab) as flowing:
        detected, kept, began = _strike(lab, chosen)
        healed = None if chosen.repair else _until_healed(lab, chosen, kept, began)
    return Outcome(chosen.name, detected, healed, flowing.sent, flowing.lost)


def mend(lab: Lab) -> Outcome:
    chosen, kept = _broken(lab)
    with _probed(lab) as flowing:
        healed = _repair(lab, chosen, kept)
    return Outcome(chosen.name, None, healed, flowing.sent, flowing.lost)


def whole(lab: Lab, chosen: Fault) -> Outcome:
    """Broken and mended in one go."""
    with _probed(lab) as flowing:
        detected, kept, began = _strike(lab, chosen)
        healed = _repair(lab, chosen, kept) if chosen.repair else _until_healed(lab, chosen, kept, began)
    return Outcome(chosen.name, detected, healed, flowing.sent, flowing.lost)


def _strike(lab: Lab, chosen: Fault) -> tuple[float, Kept, float]:
    kept = chosen.inflict(lab)
    began = time.monotonic()
    _note(lab).write_text(json.dumps({"fault": chosen.name, "kept": kept}))
    _wait(lambda: chosen.noticed(lab, kept), f"{chosen.name}: its being noticed", NOTICED_WITHIN)
    return time.monotonic() - began, kept, began


def _repair(lab: Lab, chosen: Fault, kept: Kept) -> float:
    began = time.monotonic()
    if chosen.repair:
        chosen.repair(lab, kept)
    return _until_healed(lab, chosen, kept, began)


def _until_healed(lab: Lab, chosen: Fault, kept: Kept, began: float) -> float:
    _wait(lambda: chosen.healed(lab, kept), f"{chosen.name}: its healing", chosen.bound)
    _note(lab).unlink()
    return time.monotonic() - began


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    world.wait_for(condition, what, seconds, every=0.005)


def _note(lab: Lab) -> Path:
    return lab.directory / "broken.json"


def _broken(lab: Lab) -> tuple[Fault, Kept]:
    try:
        note = json.loads(_note(lab).read_text())
    except FileNotFoundError:
        raise FelixliteError("nothing of this lab is broken: `felixlite lab break --help` says what can be") from None
    return fault(note["fault"]), note["kept"]


@contextmanager
def _probed(lab: Lab) -> Iterator[Traffic]:
    with Traffic(lab.pod_places()) as flowing:
        time.sleep(WARM)
        yield flowing
        time.sleep(WARM)
