"""From structure files to prepared text: read, refuse with a reason, describe, de-duplicate, filter, split."""

from typing import TYPE_CHECKING, Any

from crystallm.data.config import PrepareConfig

if TYPE_CHECKING:
    from crystallm.data.preparing.preparation import prepare

__all__ = ["PrepareConfig", "prepare"]


def __getattr__(name: str) -> Any:
    # Preparing needs datasets, pandas and all readers: who only looks up templates does not wait for them.
    if name == "prepare":
        from crystallm.data.preparing.preparation import prepare

        return prepare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
