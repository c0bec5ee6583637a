from __future__ import annotations

import pytest

from api.jobs.context import JobContext
from api.store import Store
from api.worker.child import run_job
from nas.errors import DataError, LightnasError


@pytest.mark.parametrize("error", [DataError, ValueError])
def test_a_job_that_fails_by_a_file_whose_name_is_no_text_says_so_once(
    store: Store, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(context: JobContext) -> None:
        raise error("caf\udce9.png: cannot be read as a picture; password=hunter2")

    monkeypatch.setattr("api.jobs.export.run", run)
    job = store.jobs.create("export", {}).id
    claim = store.jobs.claim("w", 60)
    assert claim is not None
    run_job(JobContext(store, claim.job, claim.fence, lambda: False))
    found = store.jobs.get(job)
    kind = "" if issubclass(error, LightnasError) else "ValueError: "
    assert (found.state, found.attempts) == ("failed", 1)
    assert found.error == f"{kind}caf?.png: cannot be read as a picture; password=***"
