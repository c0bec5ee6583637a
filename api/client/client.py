"""Client: the whole API of a server as methods."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel, TypeAdapter

from api.client.transport import ServerError, Transport, check_url
from api.client.trials import LeasedTrial
from api.schemas.boards import BoardDetail, BoardOut, BoardRequest
from api.schemas.common import Page
from api.schemas.evaluations import AskAnswer
from api.schemas.events import EventOut
from api.schemas.jobs import ArtifactOut, ExportRequest, JobOut, ProfileRequest, TrainRequest, VerifyRequest
from api.schemas.searches import SearchOut, SearchRequest, SearchSummary
from api.schemas.spaces import (
    Feasibility,
    FeasibilityRequest,
    Price,
    PriceRequest,
    SpaceDetail,
    SpaceSummary,
)
from api.schemas.tables import Coverage, TableDetail, TableImported, TableOut
from api.schemas.tokens import Me, TokenMade, TokenOut, TokenRequest
from api.schemas.trials import FrontOut, NetworkOut, TrialOut, TrialSummary
from api.settings import Settings

_ASK_S = 30.0  # the server holds a request for trials so long
_RECONNECT_S = 1.0
_PAGE = 500

Item = TypeVar("Item", bound=BaseModel)
Search = int | str
"""A search by its number or its name."""


class Client:
    """A lightnas server.

    Every request is sent again while the server is away, busy or limits the rate; a POST is done once however often it
    is sent. Threads may share a client.

    Args:
        url: e.g. http://127.0.0.1:8080.
        token: what `nas tokens create` printed; default: LIGHTNAS_TOKEN, else of a server on this machine the token of
            its first start.
        patience_s: how long a request is sent again.

    Raises:
        OptionError: the URL or the token is none.
    """

    def __init__(self, url: str, token: str | None = None, *, patience_s: float = 30.0) -> None:
        self.patience_s = patience_s
        self._transport = Transport(url, token or find_token(url))

    @property
    def url(self) -> str:
        """Of the server."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def me(self) -> Me:
        """Whose token this is."""
        return self._get(Me, "me")

    # Spaces ------------------------------------------------------------------------------------------------------

    def spaces(self) -> list[SpaceSummary]:
        """The search spaces."""
        return TypeAdapter(list[SpaceSummary]).validate_json(self._request("GET", "spaces").content)

    def space(self, name: str, **settings: Any) -> SpaceDetail:
        """A space's genes and ranges; `resolution`, `classes`, `channels` as `nas spaces show`."""
        return self._get(SpaceDetail, f"spaces/{_part(name)}", settings)

    def price(self, space: str, request: PriceRequest) -> list[Price]:
        """What networks cost."""
        response = self._request("POST", f"spaces/{_part(space)}/price", body=_body(request))
        return TypeAdapter(list[Price]).validate_json(response.content)

    def feasibility(self, space: str, request: FeasibilityRequest) -> Feasibility:
        """What budgets leave of a space."""
        return self._post(Feasibility, f"spaces/{_part(space)}/feasibility", request)

    # Boards and tables -------------------------------------------------------------------------------------------

    def boards(self) -> Iterator[BoardOut]:
        """The registered boards, by name."""
        return self._pages(BoardOut, "boards")

    def board(self, name: str) -> BoardDetail:
        """A board with what its last check found."""
        return self._get(BoardDetail, f"boards/{_part(name)}")

    def add_board(self, request: BoardRequest) -> BoardOut:
        """Register a board; for admins."""
        return self._post(BoardOut, "boards", request)

    def remove_board(self, name: str) -> None:
        """Forget a board; its tables stay. For admins."""
        self._request("DELETE", f"boards/{_part(name)}")

    def tables(self, board: str | None = None) -> Iterator[TableOut]:
        """The latency tables, newest first."""
        return self._pages(TableOut, "tables", {"board": board})

    def import_table(self, content: Mapping[str, Any]) -> TableImported:
        """Store what `nas tables export` wrote; for admins."""
        return self._post(TableImported, "tables", content)

    def table(self, digest: str) -> TableDetail:
        """A table without its entries."""
        return self._get(TableDetail, f"tables/{_part(digest)}")

    def coverage(self, digest: str, space: str, **settings: Any) -> Coverage:
        """Which kernels of a space a table knows."""
        return self._get(Coverage, f"tables/{_part(digest)}/coverage", {"space": space, **settings})

    # Searches ----------------------------------------------------------------------------------------------------

    def submit(self, request: SearchRequest) -> SearchOut:
        """Submit a search; a worker of the server makes it."""
        return self._post(SearchOut, "searches", request)

    def searches(self, **filters: Any) -> Iterator[SearchSummary]:
        """The searches, newest first.

        Args:
            **filters: `state`, `space`, `board`, `owner`, `name` (a part of it), `sort` (`newest` or `oldest`).
        """
        return self._pages(SearchSummary, "searches", filters)

    def search(self, search: Search) -> SearchOut:
        """One search."""
        return self._get(SearchOut, self._path(search))

    def cancel(self, search: Search) -> SearchOut:
        """Cancel a search; what it has is kept, and it can be resumed."""
        return self._post(SearchOut, f"{self._path(search)}/cancel")

    def pause(self, search: Search) -> SearchOut:
        """Pause a search after its running step."""
        return self._post(SearchOut, f"{self._path(search)}/pause")

    def resume(self, search: Search, *, trials: int | None = None, stop_when: float | None = None) -> SearchOut:
        """Go on with a search, perhaps for more trials."""
        changes = {k: v for k, v in (("trials", trials), ("stop_when", stop_when)) if v is not None}
        return self._post(SearchOut, f"{self._path(search)}/resume", changes)

    def retry(self, search: Search) -> SearchOut:
        """Evaluate a search's failed trials again."""
        return self._post(SearchOut, f"{self._path(search)}/retry")

    def delete(self, search: Search) -> None:
        """Delete a search with all that is its own."""
        self._request("DELETE", self._path(search))

    def list_trials(self, search: Search, *, state: str | None = None, order: str = "number") -> Iterator[TrialSummary]:
        """A search's trials in number order, or with `order="reward"` the best ones first."""
        return self._pages(TrialSummary, f"{self._path(search)}/trials", {"state": state, "order": order})

    def trial(self, search: Search, number: int) -> TrialOut:
        """One trial with all its evaluator told."""
        return self._get(TrialOut, f"{self._path(search)}/trials/{number}")

    def architecture(self, search: Search, number: int) -> NetworkOut:
        """A trial's network with every op and its cost."""
        return self._get(NetworkOut, f"{self._path(search)}/trials/{number}/architecture")

    def onnx(self, search: Search, number: int) -> bytes:
        """A trial's network as an untrained ONNX file."""
        return self._request("GET", f"{self._path(search)}/trials/{number}/onnx").content

    def front(self, search: Search, by: str | None = None, at: Sequence[float] = ()) -> FrontOut:
        """The trials no other beats in accuracy and cost, and the best one inside each budget `at`."""
        return self._get(FrontOut, f"{self._path(search)}/front", {"by": by, "at": list(at) or None})

    # Evaluating trials here --------------------------------------------------------------------------------------

    def trials(self, search: Search, *, name: str | None = None, patience_s: float = 3600.0) -> Iterator[LeasedTrial]:
        """Trials of a search with the evaluator `remote`, one at a time, until it is over.

        A trial is this process's until it is told; while the server is away, its trial and its lease wait. Run the
        loop in as many processes as there are GPUs.

        Args:
            search: which one.
            name: what people call this client; default: host and process.
            patience_s: how long to wait for a server that is away.
        """
        number, name = self._id(search), name or f"{socket.gethostname()[:40]}-{os.getpid()}"
        while True:
            trials, finished = self._ask(number, {"client": name, "wait_s": _ASK_S}, patience_s)
            for trial in trials:
                try:
                    yield trial
                finally:
                    trial.let_go()
            if finished:
                return

    def ask(
        self, search: Search, *, count: int = 1, name: str = "client", wait_s: float = 0.0, onnx: bool = False
    ) -> list[LeasedTrial]:
        """Lease up to `count` trials at once; each is kept by heartbeats until it is told or let go."""
        body = {"count": count, "client": name, "wait_s": wait_s, "onnx": onnx}
        return self._ask(self._id(search), body, self.patience_s)[0]

    def _ask(self, search: int, body: Mapping[str, Any], patience_s: float) -> tuple[list[LeasedTrial], bool]:
        """Trials, and whether the search is over."""
        wait_s = float(body["wait_s"])
        response = self._transport.request(
            "POST", f"searches/{search}/ask", body=body, wait_s=wait_s, patience_s=patience_s
        )
        answer = self._transport.read(AskAnswer, response)
        trials = [LeasedTrial(self._transport, search, lease, patience_s=patience_s) for lease in answer.leases]
        return trials, answer.finished

    # Jobs and artifacts ------------------------------------------------------------------------------------------

    def profile(self, request: ProfileRequest) -> JobOut:
        """Measure a space's ops on a board; for admins."""
        return self._post(JobOut, "jobs/profile", request)

    def verify(self, request: VerifyRequest) -> JobOut:
        """Run a search's networks, or its export, on a board."""
        return self._post(JobOut, "jobs/verify", request)

    def train(self, request: TrainRequest) -> JobOut:
        """Train a search's best networks to the end."""
        return self._post(JobOut, "jobs/train", request)

    def export(self, request: ExportRequest) -> JobOut:
        """Write the winner's files; they are the job's artifacts."""
        return self._post(JobOut, "jobs/export", request)

    def jobs(self, **filters: Any) -> Iterator[JobOut]:
        """The jobs, newest first; filters: `kind`, `state`, `search_id`, `board`, `owner`."""
        return self._pages(JobOut, "jobs", filters)

    def job(self, number: int) -> JobOut:
        """One job."""
        return self._get(JobOut, f"jobs/{number}")

    def cancel_job(self, number: int) -> JobOut:
        """Cancel a job."""
        return self._post(JobOut, f"jobs/{number}/cancel")

    def delete_job(self, number: int) -> None:
        """Delete a job that is over, with its artifacts."""
        self._request("DELETE", f"jobs/{number}")

    def artifacts(self, *, job: int | None = None, search: Search | None = None) -> Iterator[ArtifactOut]:
        """The files of a job, or of all jobs about a search."""
        path = f"jobs/{job}" if search is None else self._path(search)
        return self._pages(ArtifactOut, f"{path}/artifacts")

    def download(self, artifact: ArtifactOut, to: Path) -> None:
        """Write an artifact to a file, which then has exactly the size and SHA-256 it was listed with.

        Raises:
            ServerError: it does not, or cannot be had.
        """
        self._transport.download(f"artifacts/{artifact.id}/content", to, artifact.sha256, self.patience_s)

    # Events ------------------------------------------------------------------------------------------------------

    def events(self, search: Search | None = None, after: int | None = None) -> Iterator[EventOut]:
        """What happens, as it happens, without a gap: a stream that is cut off goes on where it was. Never ends.

        Args:
            search: only what is about it.
            after: begin behind this event; None: with what comes now.

        Raises:
            ServerError: it was refused, or the server stayed away.
        """
        return (event for event in self.stream(search, after) if event is not None)

    def stream(self, search: Search | None = None, after: int | None = None) -> Iterator[EventOut | None]:
        """As `events`, with a None whenever the stream begins, and now and then as a sign of life.

        What comes after the first None will be told; so whoever looks at a search then, and at each None, misses
        nothing.
        """
        path = "events" if search is None else f"{self._path(search)}/events"
        for message in self._messages(path, after):
            yield EventOut.model_validate_json(message.data) if message.data else None

    def _messages(self, path: str, after: int | None) -> Iterator[ServerSentEvent]:
        last, failures = after, 0
        while True:
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            try:
                for message in self._transport.stream(path, headers):
                    last, failures = int(message.id), 0
                    yield message
            except ServerError as e:
                failures += 1
                if not e.passing or failures * _RECONNECT_S > self.patience_s:
                    raise
                time.sleep(_RECONNECT_S)

    # Tokens ------------------------------------------------------------------------------------------------------

    def tokens(self) -> Iterator[TokenOut]:
        """The tokens without their secrets; for admins."""
        return self._pages(TokenOut, "tokens")

    def make_token(self, request: TokenRequest) -> TokenMade:
        """Make a token; its text is in this answer and nowhere else. For admins."""
        return self._post(TokenMade, "tokens", request)

    def revoke_token(self, number: str) -> TokenOut:
        """Make a token worthless; for admins."""
        return self._transport.read(TokenOut, self._request("DELETE", f"tokens/{_part(number)}"))

    # Parts -------------------------------------------------------------------------------------------------------

    def _id(self, search: Search) -> int:
        """The number of a search."""
        if isinstance(search, int) or (search.isascii() and search.isdigit()):
            return int(search)
        for found in self.searches(named=search):
            return found.id
        raise ServerError(
            f"the server {self.url} has no search {search!r}; `nas searches list` shows what there is", 404
        )

    def _path(self, search: Search) -> str:
        return f"searches/{self._id(search)}"

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._transport.request(method, path, patience_s=self.patience_s, **more)

    def _get(self, model: type[Item], path: str, params: Mapping[str, Any] | None = None) -> Item:
        return self._transport.read(model, self._request("GET", path, params=params))

    def _post(self, model: type[Item], path: str, body: BaseModel | Mapping[str, Any] | None = None) -> Item:
        return self._transport.read(model, self._request("POST", path, body=_body(body)))

    def _pages(self, model: type[Item], path: str, params: Mapping[str, Any] | None = None) -> Iterator[Item]:
        cursor: str | None = None
        while True:
            page = self._get(Page[model], path, {"limit": _PAGE, **(params or {}), "cursor": cursor})  # type: ignore[valid-type]
            yield from page.items
            if page.next is None:
                return
            cursor = page.next


def find_token(url: str) -> str | None:
    """LIGHTNAS_TOKEN; of a server on this machine else the token of its first start, if this user may read it."""
    given = os.environ.get("LIGHTNAS_TOKEN", "").strip()
    if given:
        return given
    if not _is_here(url):
        return None
    try:
        return Settings.from_env().token_file.read_text().strip() or None
    except OSError:
        return None


def _is_here(url: str) -> bool:
    host = httpx.URL(check_url(url)).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _body(request: BaseModel | Mapping[str, Any] | None) -> Any:
    """JSON types: of a model what was set."""
    return (
        request.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if isinstance(request, BaseModel)
        else request
    )


def _part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")
