# The load test as an image: vegeta and loadtest/, for the profile `loadtest` of docker-compose.yml.
ARG BASE_IMAGE=debian:bookworm-slim
ARG GO_IMAGE=golang:1.24-bookworm

# Vegeta, pinned by tools/go.mod. Where no registry has Go, GO_IMAGE is an image without it (the base), and the binary
# that tools/go_tools.sh made is taken instead.
FROM ${GO_IMAGE} AS vegeta
WORKDIR /src
# The pattern, because the binary need not be there.
COPY tools/go.mod tools/go.sum build/tools/veget[a] ./
RUN if command -v go >/dev/null; then go build -trimpath -o /out/vegeta github.com/tsenart/vegeta/v12; \
    else mkdir /out && cp vegeta /out/; fi

FROM ${BASE_IMAGE}
ARG SOURCE_DATE_EPOCH=1767225600
RUN apt-get update -o APT::Update::Error-Mode=any \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-pymongo python3-redis \
 && groupadd --system --gid 900 waybill \
 && useradd --system --uid 900 --gid 900 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin waybill \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/ldconfig/aux-cache /var/log/*
COPY --from=vegeta /out/vegeta /usr/local/bin/
COPY tools/go.mod /opt/waybill/tools/
COPY loadtest /opt/waybill/loadtest
ENV PYTHONDONTWRITEBYTECODE=1
USER 900:900
ENTRYPOINT ["/opt/waybill/loadtest/run.py"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="waybill-loadtest" \
      org.opencontainers.image.description="Load test of Waybill, a resilient event gateway" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
