"""The store's and IPAM's refusals in the codes of the specification: what a runtime may try again, and what not."""

from collections.abc import Iterator
from contextlib import contextmanager

from felixlite.cni.errors import CniError, Code
from felixlite.errors import Conflict, Denied, StoreError, Unreachable
from felixlite.ipam import assign as choice


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """The store's and IPAM's refusals in the codes of the specification."""
    try:
        yield
    except (Unreachable, Conflict) as error:
        raise CniError(Code.TRY_AGAIN_LATER, f"{doing}: try again later", str(error)) from None
    except choice.Exhausted as error:
        raise CniError(Code.TRY_AGAIN_LATER, f"{doing}: no address is free", str(error)) from None
    except Denied as error:
        raise CniError(Code.IO_FAILURE, f"{doing}: the store refuses", str(error)) from None
    except (choice.NoPool, choice.Taken) as error:
        raise CniError(Code.INVALID_CONFIG, f"{doing} failed", str(error)) from None
    except StoreError as error:
        raise CniError(Code.FAILED, f"{doing} failed", str(error)) from None
