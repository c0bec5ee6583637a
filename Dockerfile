# lightnas with CPU torch, as an unprivileged user.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends openssh-client libgomp1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/lightnas
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nas ./nas
COPY latency ./latency
COPY api ./api
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt .
RUN useradd --create-home lightnas && mkdir /data && chown lightnas /data
USER lightnas
ENV LIGHTNAS_HOME=/data ORT_DISABLE_TELEMETRY=1
VOLUME /data
HEALTHCHECK --interval=15s --timeout=5s CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"
CMD ["nas", "serve"]
