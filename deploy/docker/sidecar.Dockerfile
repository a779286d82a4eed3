# syntax=docker/dockerfile:1
# The sidecar, the realtime service, the storage service and the indexer, of which a container runs one: four binaries, the system's certificates, no shell tools beyond Debian's minimum, not root.
# Build from the checkout's root: docker build -f deploy/docker/sidecar.Dockerfile .

FROM rust:1.95-bookworm AS builder
WORKDIR /src
# All crates, since they share one lock file; nothing else, so that a change of SQL builds no Rust.
COPY Cargo.toml Cargo.lock ./
COPY kijko_ext kijko_ext
COPY services services
COPY sidecar sidecar
RUN cargo build --release --locked --package kijko-sidecar --package kijko-realtime --package kijko-storage --package kijko-indexer \
    && strip --strip-debug target/release/kijko-sidecar target/release/kijko-realtime target/release/kijko-storage target/release/kijko-indexer

FROM debian:bookworm-slim
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 kijko \
    && useradd --system --uid 10001 --gid kijko --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kijko
COPY --from=builder /src/target/release/kijko-sidecar /src/target/release/kijko-realtime /src/target/release/kijko-storage /src/target/release/kijko-indexer /usr/local/bin/
# A new volume gets the owner of the folder that it is mounted on. The storage service and the sidecar run as the user of
# the postgres image, which copies objects and the journal of erasures into backups and brings them back.
RUN install -d -o 999 -g 999 -m 0700 /var/lib/kijko-storage /var/lib/kijko-privacy
RUN install -d -o kijko -g kijko -m 0700 /var/lib/kijko-repositories
# Caddy writes the log of requests, as a member of this group.
RUN install -d -o 999 -g 999 -m 0770 /var/log/kijko
COPY --chmod=0755 deploy/docker/sidecar-entrypoint.sh /usr/local/bin/kijko-entrypoint
COPY --chmod=0755 deploy/docker/sidecar-healthy.sh /usr/local/bin/kijko-healthy
USER 10001:10001
ENV KIJKO_PROGRAM=kijko-sidecar KIJKO_SIDECAR_BIND=0.0.0.0:54333 KIJKO_REALTIME_BIND=0.0.0.0:54337 KIJKO_STORAGE_BIND=0.0.0.0:54339 KIJKO_INDEXER_BIND=0.0.0.0:54328
EXPOSE 54333 54337 54339
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["kijko-healthy"]
ENTRYPOINT ["kijko-entrypoint"]
