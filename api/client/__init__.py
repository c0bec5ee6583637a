"""The typed client of a lightnas server.

from api.client import Client

client = Client("http://127.0.0.1:8080")
for trial in client.trials("my-search"):
    with trial:
        trial.tell(train(trial.graph, trial.seed, trial.report))
"""

from __future__ import annotations

from api.client.client import Client
from api.client.transport import ServerError
from api.client.trials import LeasedTrial

__all__ = ["Client", "LeasedTrial", "ServerError"]
