"""Potentials: energies, forces and stress of crystals."""

from typing import Annotated

from crystallm.base.command_line import Option

PotentialName = Annotated[
    str,
    Option(
        help="chgnet, sevenn, or any other calculator of ASE by its name: package.module:callable is called without "
        "arguments and returns it"
    ),
]
"""The option --potential of every command."""
