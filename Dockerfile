# lightnas with CPU torch, as an unprivileged user. EXTRAS="[ray]" adds Ray.
FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends openssh-client libgomp1 postgresql-client-15 \
    && rm -rf /var/lib/apt/lists/*
ARG UID=10001
RUN useradd --create-home --uid "$UID" lightnas \
    && install -d -o lightnas -g lightnas -m 700 /data /home/lightnas/.ssh && install -d /datasets
WORKDIR /opt/lightnas
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nas ./nas
COPY latency ./latency
COPY api ./api
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=""
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt ".$EXTRAS" && rm -rf build
USER $UID
WORKDIR /data
ENV LIGHTNAS_HOME=/data XDG_CACHE_HOME=/data/cache MPLCONFIGDIR=/tmp/matplotlib \
    ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
VOLUME /data
CMD ["nas", "serve", "--host", "0.0.0.0", "--behind-proxy"]
