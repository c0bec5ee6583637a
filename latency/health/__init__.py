"""How a board is doing, for `nas boards check`: what it is, what would disturb measurements, and how to mend that.

Reads only. One script asks for everything (`script`); `parse` and `advise` work on its text, so tests feed them
recorded boards. What no board of ours has (clusters, frequency scaling, throttling) is tested on those alone.
"""

from latency.health.advice import advise
from latency.health.check import check
from latency.health.clusters import Cluster, Core, format_list, recommended_cores
from latency.health.parse import parse
from latency.health.report import Cooling, Health, Zone

__all__ = [
    "Cluster",
    "Cooling",
    "Core",
    "Health",
    "Zone",
    "advise",
    "check",
    "format_list",
    "parse",
    "recommended_cores",
]
