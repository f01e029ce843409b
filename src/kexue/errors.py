"""Errors that a user can cause and repair.

Each message says what was expected, what was received and what to do. The command line turns them into one line
and exit code 2; anything else that escapes is a defect of kexue. All are ``ValueError`` too, so that code which
knows nothing of kexue can catch them.
"""

__all__ = ["CheckpointError", "ConfigError", "DataError", "KexueError"]


class KexueError(ValueError):
    """Base of all errors that kexue raises for wrong input."""


class ConfigError(KexueError):
    """A configuration value or argument that cannot work."""


class DataError(KexueError):
    """A data set, label or text that cannot be used; the message names file and line where there is one."""


class CheckpointError(KexueError):
    """A checkpoint that is missing, corrupt, truncated or does not fit; the message names file and tensor."""
