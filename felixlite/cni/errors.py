"""The error codes of the CNI specification, as one exception. Pure."""

from enum import IntEnum

from felixlite.errors import FelixliteError


class Code(IntEnum):
    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3  # the runtime need not clean up
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    UNDECODABLE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED = 51  # not available, and existing containers may suffer
    FAILED = 100  # from here on the plugin's own
    NOT_AS_ADDED = 101  # CHECK


class CniError(FelixliteError):
    """What the runtime gets to read: a short sentence, and what to look at."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code, self.message, self.details = code, message, details
