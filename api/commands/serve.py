"""`nas serve`: the REST service, and a worker beside it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from api.commands.output import say
from api.commands.worker import (
    ExecutorOption,
    ProcessesOption,
    RayAddressOption,
    TrialCpusOption,
    TrialGpusOption,
    build_trial_executor,
)
from api.settings import ServeSettings
from api.store import Store

_STREAMS_END_S = 3  # how long open event streams may take to end


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy on this machine does TLS; its X-Forwarded headers count.")
    ] = False,
    root_path: Annotated[str, typer.Option(metavar="/PREFIX", help="Path the proxy serves this under.")] = "",
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Host name to answer to; may be given several times.")
    ] = None,
    rate: Annotated[int, typer.Option(min=1, help="Requests a minute per token.")] = ServeSettings.rate_per_minute,
    tries: Annotated[
        int, typer.Option(min=1, help="Requests a minute per address without a valid token.")
    ] = ServeSettings.tries_per_minute,
    jobs: Annotated[int, typer.Option(min=0, max=64, help="Jobs the server's own worker runs at a time; 0: none.")] = 2,
    processes: ProcessesOption = None,
    executor: ExecutorOption = "processes",
    ray_address: RayAddressOption = None,
    trial_cpus: TrialCpusOption = 1.0,
    trial_gpus: TrialGpusOption = 0.0,
) -> None:
    """Serve the dashboard at /, searches, boards and jobs over REST, and run them. OpenAPI at /docs.

    Example: nas serve, then nas search --server http://127.0.0.1:8080 --space mobilenetv2-small

    On this machine only, unless there is TLS (--tls-cert, --tls-key) or a proxy that does it (--behind-proxy).
    """
    from api.admission import first_token, serve_address_rules

    local = serve_address_rules(host, tls_cert, tls_key, behind_proxy) and not behind_proxy
    trials = build_trial_executor(executor, ray_address, trial_cpus, trial_gpus, processes)
    import uvicorn

    from api.app import create_app
    from api.operations.log import configure
    from api.rest.server import Server
    from api.service import Service
    from api.worker.embedded import EmbeddedWorker

    configure()
    wanted: list[int] = []  # signals heard before uvicorn listens; it raises those it hears again when it has ended
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda heard, _frame: wanted.append(heard))
    with Store.open() as store:
        settings = ServeSettings.from_env(
            store.settings,
            rate_per_minute=rate,
            tries_per_minute=tries,
            allowed_hosts=_allowed_hosts(allowed_host or [], local=local),
            loopback=local,
        )
        service = Service(store, settings)
        service.data.check_place()
        url = f"{'http' if tls_cert is None else 'https'}://{host}:{port}"
        if local:
            token = first_token(store, store.settings)
            if sys.stderr.isatty():
                say(f"lightnas on {url}/#token={token} (Ctrl-C ends it)")
            else:  # stderr is a log, and logs are read by others
                say(f"lightnas on {url}/ (Ctrl-C ends it)\ntoken: in {store.settings.token_file}")
        else:
            say(f"lightnas on {url} (Ctrl-C ends it); tokens are made by: nas tokens create")
        app = create_app(service)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=behind_proxy,
            root_path=root_path,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
            timeout_graceful_shutdown=_STREAMS_END_S,
        )
        worker = EmbeddedWorker(jobs, trials) if jobs else None
        try:
            if worker is not None:
                worker.start()
            if not wanted:
                Server(config, app, ended=wanted).run()
        finally:
            if worker is not None:
                say("waiting for running steps to end")
                worker.stop()


def _allowed_hosts(named: list[str], *, local: bool) -> tuple[str, ...]:
    """Names to answer to: on loopback a page of another site must not reach us under a name of its own (rebinding)."""
    if local or named:
        return (*ServeSettings.allowed_hosts, *named)
    return ("*",)
