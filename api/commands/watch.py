"""A search of a server on the screen, as `nas search` shows one that runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from api.client import Client, ServerError
from api.commands.live import SearchView
from api.commands.output import print_json, progress_bar, say
from api.commands.remote import connect, request, watching
from api.commands.told import print_result
from api.schemas.events import EventOut
from api.schemas.searches import SearchOut, SearchRequest
from api.schemas.trials import TrialSummary
from nas.evaluator import Progress
from nas.search import SearchResult, Stopped, TrialEnded, TrialStarted, TrialStep
from nas.strategy import Beliefs
from nas.trial import Trial, TrialState

OVER = ("paused", "stopped", "cancelled", "complete", "failed")


def watch_search(client: Client, search: SearchOut, *, after: int | None) -> tuple[SearchOut, SearchResult]:
    """Show a search's trials as they are made, until it ends.

    Args:
        client: of its server.
        search: which one.
        after: the event to begin behind; None: with what comes now.

    Returns:
        The search as it ended, and what it came to.

    Raises:
        ServerError: it failed.
    """
    with watching(client, f"search {search.name}", f"nas searches watch {search.name}"), progress_bar() as bar:
        done = sum(search.trials.values()) - search.trials["running"]
        best = None if search.best is None else search.best.accuracy
        screen = Screen(client, search.id, SearchView(bar, search.wanted, done=done, best=best))
        found, behind = search, after is not None
        for event in client.stream(search.id, after):
            if event is not None:
                screen.hear(event)
            elif behind:  # what is told next happened before now
                behind = False
                continue
            if event is None or event.kind == "search.state":
                found = client.search(search.id)
                if found.state in OVER and (event is None or event.data["state"] == found.state):
                    break
    if found.state == "failed":
        raise ServerError(f"search {found.name} failed: {found.error}")
    return found, _result(client, found)


def search_there(server: str, asked: Mapping[str, Any], *, detach: bool, as_json: bool) -> None:
    """Submit a search and, unless `detach`, show it until it ends.

    Args:
        server: its URL.
        asked: fields of a `SearchRequest`; None: the server's default.
        detach: only submit.
        as_json: print what it came to as JSON.
    """
    with connect(server) as client:
        search = client.submit(request(SearchRequest, **asked))
        _follow(client, search, after=0, detach=detach, as_json=as_json)


def resume_there(
    server: str, name: str, *, trials: int | None, stop_when: float | None, detach: bool, as_json: bool
) -> None:
    """Have a server go on with a search, and show it as `search_there` does."""
    with connect(server) as client:
        search = client.resume(name, trials=trials, stop_when=stop_when)
        _follow(client, search, after=None, detach=detach, as_json=as_json)


def watch_there(server: str, name: str, *, as_json: bool) -> None:
    """Show a server's search from now on until it ends."""
    with connect(server) as client:
        _follow(client, client.search(name), after=None, detach=False, as_json=as_json)


def _follow(client: Client, search: SearchOut, *, after: int | None, detach: bool, as_json: bool) -> None:
    if detach:
        if as_json:
            print_json(search.model_dump())
        else:
            say(f"search {search.name} is {search.state}: nas searches watch {search.name} --server {client.url}")
        return
    found, result = watch_search(client, search, after=after)
    print_result(found, result, as_json=as_json)
    if found.state != "complete":
        say(f"it is {found.state}; go on with it: nas searches resume {found.name} --server {client.url}")
        raise typer.Exit(1)


class Screen:
    """Turns events of a server into those of a search that runs here."""

    def __init__(self, client: Client, search_id: int, view: SearchView) -> None:
        self._client, self._search, self._view = client, search_id, view
        self._started: set[int] = set()
        self._ended: set[int] = set()

    def hear(self, event: EventOut) -> None:
        """Show an event, if it is about a trial."""
        if event.trial is None:
            return
        if event.kind == "trial.started":
            self._ended.discard(event.trial)  # a failed one may be made again
            self._start(event.trial)
        elif event.kind == "trial.step" and event.trial not in self._ended:  # steps are told late
            self._start(event.trial)
            data = event.data
            self._view(TrialStep(event.trial, Progress(data["step"], data["steps"], data["metrics"])))
        elif event.kind == "trial.ended":
            self._start(event.trial)
            self._view(TrialEnded(as_trial(self._client.trial(self._search, event.trial))))
            self._started.discard(event.trial)
            self._ended.add(event.trial)

    def _start(self, number: int) -> None:
        if number not in self._started:
            self._started.add(number)
            self._view(TrialStarted(Trial(number, ())))


def trials_there(client: Client, search_id: int, *, best: bool = False) -> Iterator[Trial]:
    """A server's trials of a search in number order, or the complete ones of highest reward first."""
    for told in client.list_trials(search_id, order="reward" if best else "number"):
        # Of one that was stopped at a rung only the whole trial tells where.
        yield as_trial(client.trial(search_id, told.number) if told.state is TrialState.PRUNED else told)


def as_trial(told: TrialSummary) -> Trial:
    """A trial of a server as one of the search side."""
    encoding = tuple(map(int, told.encoding.split(",")))
    fields = told.model_dump(exclude={"encoding", "started_at", "finished_at"})
    return Trial(encoding=encoding, **fields)


def _result(client: Client, search: SearchOut) -> SearchResult:
    job = None if search.job is None else client.job(search.job.id)
    told = (job.result or {}) if job is not None else {}
    seconds = 0.0
    if job is not None and job.started_at is not None and job.finished_at is not None:
        seconds = (job.finished_at - job.started_at).total_seconds()
    counts, beliefs = search.trials, search.beliefs
    return SearchResult(
        trials=sum(counts.values()),
        complete=counts["complete"],
        pruned=counts["pruned"],
        failed=counts["failed"],
        best=None if search.best is None else as_trial(client.trial(search.id, search.best.number)),
        beliefs=None if beliefs is None else Beliefs(beliefs.recommended, beliefs.expected_regret),
        stopped=Stopped(told.get("stopped", "done" if search.state == "complete" else "stopped")),
        seconds=seconds,
    )
