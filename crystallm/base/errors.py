"""The failures a user can cause. A message names the value received and the remedy; the exit code is 2."""


class CrystallmError(Exception):
    """Base of every error that is the caller's to mend, not a bug of ours.

    Example:
        >>> from crystallm import CrystallmError, known
        >>> try:
        ...     known("NaXx")
        ... except CrystallmError as error:
        ...     print(type(error).__name__)
        CompositionError
    """


class ConfigError(CrystallmError):
    """A recipe or an option holds an unknown field, a wrong type or an impossible value."""


class InputError(CrystallmError):
    """A file or folder cannot be read, holds nothing useful, or cannot be written."""


class CompositionError(CrystallmError):
    """A formula cannot be parsed, or no crystal of the kind asked for can hold it."""


class SymmetryError(CrystallmError):
    """A space group is not known by this number or symbol."""


class LayoutError(CrystallmError):
    """A text layout is unknown, or does not fit the file or model it is used with."""


class CheckpointError(CrystallmError):
    """A checkpoint folder is missing, incomplete, or was not made by this project."""


class DivergenceError(CrystallmError):
    """A training run has left the numbers: its loss or gradient is infinite or not a number."""


class ProcessError(CrystallmError):
    """Another process of the same run has ended, and this one cannot go on without it."""
