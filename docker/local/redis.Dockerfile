# Redis from Debian's package, with the uid and folder of the official image. Made by docker/local-images.sh.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN groupadd --system --gid 999 redis \
 && useradd --system --uid 999 --gid 999 --no-create-home --home-dir /data --shell /usr/sbin/nologin redis \
 && apt-get update -o APT::Update::Error-Mode=any \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends redis-server \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/* \
 && mkdir /data && chown 999:999 /data
USER 999:999
WORKDIR /data
STOPSIGNAL SIGTERM
CMD ["redis-server"]
