"""The pictures of docs/pictures: four places of the dashboard of a running server, as a browser shows them.

    python benchmarks/dashboard_pictures.py --url http://127.0.0.1:8080 --search digits --board here

The token is LIGHTNAS_TOKEN, else the one of the server's first start in LIGHTNAS_HOME.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))
from dashboard import ROOT, browsing, chromium

from api.client import Client
from api.settings import Settings

_SIZE = {"width": 1360, "height": 900}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--search", required=True, help="name of a search with a latency budget")
    parser.add_argument("--board", required=True)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    token = os.environ.get("LIGHTNAS_TOKEN") or Settings.from_env().token_file.read_text().strip()
    with Client(options.url, token=token) as client:
        found = client.search(options.search)
    best, limit = found.best, found.spec["budgets"]["latency_ms"]
    if best is None:
        sys.exit(f"error: the search {options.search} has no complete trial yet")
    space = found.spec["space"]
    form = (
        f"space={space['name']}&resolution={','.join(map(str, space['resolution']))}&channels={space['channels']}"
        f"&data=digits&board={options.board}&latency_ms={limit}&trials=120&epochs=3&strategy=annealing&name=my-digits"
    )
    places = {
        "search": (f"#/searches/{found.id}?trial={best.number}", False),
        "network": (f"#/searches/{found.id}/trials/{best.number}?against=mobilenetv2", False),
        "new-search": (f"#/new?{form}", False),
        "board": (f"#/boards/{options.board}", True),
    }
    program = chromium()
    if program is None:
        sys.exit("error: no chromium here; install it, or set LIGHTNAS_CHROMIUM to the program")
    options.to.mkdir(parents=True, exist_ok=True)
    with browsing(program) as browser:
        for name, (place, dark) in places.items():
            scheme = "dark" if dark else "light"
            page = browser.new_page(viewport=_SIZE, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.goto(f"{options.url}/#token={token}")
            page.locator(".shell").wait_for()
            page.evaluate("(place) => { location.hash = place; }", place)
            page.wait_for_timeout(8000)
            page.screenshot(path=options.to / f"{name}.png")
            page.close()
            print(options.to / f"{name}.png")


if __name__ == "__main__":
    main()
