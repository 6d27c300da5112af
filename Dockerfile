# Sluice in a container. docs/operations.md, "Docker"
#
#   docker build -t sluice .
#   docker run --name sluice -p 8484:8484 -v sluice:/data --stop-timeout 40 sluice

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN python -m venv /opt/sluice \
 && /opt/sluice/bin/pip install --no-cache-dir . \
 && /opt/sluice/bin/pip uninstall --yes setuptools pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home sluice \
 && install --directory --owner sluice --group sluice --mode 0700 /data
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH PYTHONUNBUFFERED=1 SLUICE_CONFIG=/data/config.yaml
USER sluice
WORKDIR /data
VOLUME /data
EXPOSE 8484
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8484/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "proxy"]
CMD ["serve", "--init", "--host", "0.0.0.0"]
