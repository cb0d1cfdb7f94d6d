"""From structure files to prepared text: read, refuse with a reason, describe, de-duplicate, filter, split."""

from crystallm.data.config import PrepareConfig
from crystallm.data.prepare import prepare

__all__ = ["PrepareConfig", "prepare"]
