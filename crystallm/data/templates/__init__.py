"""Libraries of known crystals: templates that draws of a formula may follow, and crystals that are returned as they
are."""

from crystallm.data.templates.known import KnownCrystal
from crystallm.data.templates.library import Template, TemplateLibrary
from crystallm.data.templates.schema import SCHEMA, kind_name

__all__ = ["SCHEMA", "KnownCrystal", "Template", "TemplateLibrary", "kind_name"]
