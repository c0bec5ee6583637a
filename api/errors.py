"""The error tree of the `api` package, below `nas.errors.LightnasError`.

StoreError            the database and the files beside it: unwritable, full, corrupt, unreachable
├── NotFound          no board, table, search of that name; lists what there is
├── AlreadyExists     the name is taken
├── SearchBusy        another process runs this search, or this profile
└── SchemaMismatch    the database is older or newer than this program
OptionError           options of a command that do not go together
ExportError           a finished network cannot be written, or an engine disagrees with torch
"""

from __future__ import annotations

from nas.errors import LightnasError


class StoreError(LightnasError):
    """The database, or the files beside it, cannot be used."""


class NotFound(StoreError):
    """Nothing of that name is stored."""


class AlreadyExists(StoreError):
    """The name is taken."""


class SearchBusy(StoreError):
    """Another process is at work on the same thing."""


class SchemaMismatch(StoreError):
    """The database has another revision than this program."""


class OptionError(LightnasError):
    """Options that do not go together, or a value that cannot be used."""


class ExportError(LightnasError):
    """A network cannot be exported, or an exported form computes something else."""
