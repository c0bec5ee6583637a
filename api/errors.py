"""The error tree of the `api` package, below `nas.errors.LightnasError`.

StoreError            the database and the files beside it: unwritable, full, corrupt, unreachable
├── NotFound          no board, table, search of that name; lists what there is
├── AlreadyExists     the name is taken
├── SearchBusy        another process runs this search, or this profile
├── DatabaseAway      the database's server does not answer just now
├── JobLost           a worker's claim on a job has run out and another one has it
├── Conflict          what is asked does not go with the state something is in
└── SchemaMismatch    the database is older or newer than this program
Forbidden             a token's role, or its user, may not do this
Unauthorized          no token, or none that is valid
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


class DatabaseAway(StoreError):
    """The database's server does not answer just now; what was begun can be tried again."""


class JobLost(StoreError):
    """A worker's claim on a job has run out."""


class Conflict(StoreError):
    """What is asked does not go with the state something is in."""


class SchemaMismatch(StoreError):
    """The database has another revision than this program."""


class Forbidden(LightnasError):
    """A token's role, or its user, may not do this."""


class Unauthorized(LightnasError):
    """There is no token, or none that is valid."""


class OptionError(LightnasError):
    """Options that do not go together, or a value that cannot be used."""


class ExportError(LightnasError):
    """A network cannot be exported, or an exported form computes something else."""
