"""Errors that a user can mend.

Each message is one sentence that names the file or argument at fault and says what to do about it.
The command line prints the message alone and exits with :attr:`SgelaError.exit_code`; a traceback is left to bugs.
This module imports nothing, so that any floor may raise these errors.
"""


class SgelaError(Exception):
    """Base of all errors that are the input's or the environment's fault, not the program's."""

    exit_code = 1


class DataError(SgelaError, ValueError):
    """A recording, an archive or a store is damaged, of an unknown kind or unfit for the job."""


class ConfigError(SgelaError, ValueError):
    """An argument or a configuration entry is wrong or contradicts another one."""

    exit_code = 2


class CheckpointError(SgelaError, ValueError):
    """A run folder or checkpoint is damaged, incomplete or belongs to another model."""


class OutputError(SgelaError, OSError):
    """A result cannot be written: no space, no permission, or the place is taken."""


class DivergenceError(SgelaError, ArithmeticError):
    """Training met a value that is not finite; the last good checkpoint is kept."""


class MissingDependencyError(SgelaError, ImportError):
    """An optional library is not installed."""


class Interrupted(SgelaError):
    """The user stopped the job; what was finished is on disk and the job can be resumed."""

    exit_code = 130


def one_line(error: BaseException) -> str:
    """What an error of a library says, on one line."""
    return " ".join(str(error).split())
