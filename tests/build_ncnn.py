"""Builds ncnn's static C++ library, of the version that is installed for Python, for the test of the C++ program.

    python tests/build_ncnn.py

Prints the folder it is installed in: VERSION in $LIGHTNAS_NCNN_DIR, else in ~/.cache/lightnas-tests/ncnn. What was
built before is kept. Only the layers our networks use are built, for processors that have AVX2 or NEON: about two
minutes of one core. Exits 3, saying what is missing, where a tool or the network is; 1 where it does not compile.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urljoin

CANNOT = 3
INDEX = "https://pypi.org/simple/ncnn/"
TIMEOUT_S = 60
# What latency/engines/ncnn.py writes, and what ncnn makes of it.
_LAYERS = """
input split convolution convolutiondepthwise innerproduct binaryop concat slice pooling reshape relu clip sigmoid swish
hardswish hardsigmoid shufflechannel
packing cast padding flatten crop noop
"""
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "NCNN_RUNTIME_CPU": "OFF",  # one code path, not one per processor
    "NCNN_AVX512": "OFF",  # without the choice at run time it would be a crash on older processors
    "NCNN_INT8": "OFF",
    "NCNN_VULKAN": "OFF",
    "NCNN_SIMPLEOCV": "OFF",
    "NCNN_PIXEL": "OFF",
    "NCNN_C_API": "OFF",
    "NCNN_PYTHON": "OFF",
    **{f"NCNN_BUILD_{part}": "OFF" for part in ("TOOLS", "EXAMPLES", "TESTS", "BENCHMARK")},
}


class CannotBuild(Exception):
    """A tool or the network is missing."""


def cache_folder() -> Path:
    """Where libraries are kept."""
    return Path(os.environ.get("LIGHTNAS_NCNN_DIR") or Path.home() / ".cache/lightnas-tests/ncnn")


def download(release: str) -> bytes:
    """The source distribution of a release, checked against the digest that the index (PEP 691) tells."""
    wanted = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(INDEX, headers=wanted), timeout=TIMEOUT_S) as answer:
            files = json.load(answer)["files"]
        source = next((file for file in files if file["filename"] == f"ncnn-{release}.tar.gz"), None)
        if source is None:
            sys.exit(f"build_ncnn: {INDEX} has no source of ncnn {release}; pin a version that has one")
        with urllib.request.urlopen(urljoin(INDEX, source["url"]), timeout=TIMEOUT_S) as answer:
            content = bytes(answer.read())
    except (OSError, http.client.HTTPException) as e:  # the latter: an answer that is cut off
        raise CannotBuild(f"the source of ncnn {release} cannot be fetched from {INDEX} ({e!r})") from e
    if hashlib.sha256(content).hexdigest() != source["hashes"]["sha256"]:
        sys.exit(f"build_ncnn: {source['url']} is not what the index says it is; try again")
    return content


def build(source: Path, work: Path, target: Path) -> None:
    """Configure, compile and install in a new folder; what that prints goes to `build.log` beside it."""
    layers = sorted(path.stem for path in (source / "src" / "layer").glob("*.cpp"))
    unwanted = {f"WITH_LAYER_{layer}": "OFF" for layer in layers if layer not in _LAYERS.split()}
    options = {**_OPTIONS, **unwanted, "CMAKE_INSTALL_PREFIX": target}
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
    with (target.parent / "build.log").open("wb") as log:
        for command in (
            ["cmake", "-S", source, "-B", work, "-G", "Ninja", *(f"-D{key}={value}" for key, value in options.items())],
            ["cmake", "--build", work, "--parallel", jobs, "--target", "install"],
        ):
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode != 0:
                sys.exit(f"build_ncnn: ncnn does not build here; see {log.name}")


def main() -> int:
    """Build it unless it is there, and print where."""
    release = version("ncnn")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = folder / release
        if not target.is_dir():
            missing = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
            if missing:
                raise CannotBuild(f"{', '.join(missing)} missing; run: make test-deps")
            parts = [folder / name for name in ("source", "work", "new")]
            for part in parts:
                shutil.rmtree(part, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(download(release))) as archive:
                archive.extractall(parts[0], filter="data")
            (source,) = parts[0].iterdir()
            build(source, parts[1], parts[2])
            parts[2].rename(target)
            for part in parts:
                shutil.rmtree(part, ignore_errors=True)
    print(target)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotBuild as e:
        print(f"build_ncnn: {e}", file=sys.stderr)
        sys.exit(CANNOT)
