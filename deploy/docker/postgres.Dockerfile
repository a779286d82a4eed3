# syntax=docker/dockerfile:1
# Debian's PostgreSQL 15 with pg_cron and the extension, and the entrypoint that makes the cluster as ./kijko does.
# Build from the checkout's root: docker build -f deploy/docker/postgres.Dockerfile .

FROM rust:1.95-bookworm AS builder
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends postgresql-server-dev-15 libclang-dev clang \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# All crates, since they share one lock file; nothing else, so that a change of SQL builds no Rust.
COPY Cargo.toml Cargo.lock ./
COPY kijko_ext kijko_ext
COPY services services
COPY sidecar sidecar
COPY scripts/ui.sh scripts/postgres.sh scripts/build.sh scripts/
# A tree with Debian's own paths, which the last stage takes as it is.
RUN kijko_ext/build.sh /out/usr
RUN strip --strip-debug /out/usr/lib/postgresql/15/lib/kijko.so

FROM debian:bookworm-slim
# The ids are fixed, so that a volume outlives the image.
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres
COPY scripts/apt-install.sh /tmp/
# This script keeps Debian from making a cluster of its own.
RUN bash /tmp/apt-install.sh postgresql-15 postgresql-15-cron openssl jq && rm -rf /tmp/apt-install.sh /var/lib/apt/lists/*
COPY --from=builder /out/usr/ /usr/
COPY scripts/ui.sh scripts/config.sh scripts/postgres.sh scripts/key_file.sh scripts/signing_keys.sh scripts/seal_keys.sh scripts/archive.sh scripts/platform.sh scripts/cluster.sh \
    scripts/services.sh scripts/stack.sh scripts/upgrade.sh scripts/keys.sh scripts/secrets.sh \
    scripts/backup.sh scripts/backup_objects.sh scripts/erasures.sh scripts/archive-wal.sh scripts/archive-objects.sh scripts/restore.sh scripts/restore-wal.sh scripts/resume.sh /opt/kijko/scripts/
COPY sql/platform/ /opt/kijko/sql/platform/
COPY supabase/release.txt /opt/kijko/supabase/
COPY deploy/docker/postgres-lib.sh /opt/kijko/deploy/docker/
COPY --chmod=0755 deploy/docker/postgres-entrypoint.sh /usr/local/bin/kijko-entrypoint
COPY --chmod=0755 deploy/docker/postgres-healthy.sh /usr/local/bin/kijko-healthy
COPY --chmod=0755 deploy/docker/postgres-api-keys.sh /usr/local/bin/kijko-api-keys
COPY --chmod=0755 deploy/docker/postgres-psql.sh /usr/local/bin/kijko-psql
COPY --chmod=0755 deploy/docker/postgres-keys.sh /usr/local/bin/kijko-keys
COPY --chmod=0755 deploy/docker/postgres-secrets.sh /usr/local/bin/kijko-secrets
COPY --chmod=0755 deploy/docker/postgres-backup.sh /usr/local/bin/kijko-backup
COPY --chmod=0755 deploy/docker/postgres-restore.sh /usr/local/bin/kijko-restore
COPY --chmod=0755 deploy/docker/postgres-resume.sh /usr/local/bin/kijko-resume
COPY --chmod=0755 deploy/docker/postgres-platform.sh /usr/local/bin/kijko-platform
# The keys that sign tokens and seal secrets lie in a volume of their own: a copy of the other one reveals no secret. A new volume
# gets the owner of the folder that it is mounted on, of whichever image is first: the storage service has the same one.
RUN install -d -o postgres -g postgres -m 0700 /var/lib/kijko /var/lib/kijko-keys /var/lib/kijko-storage /var/lib/kijko-backups /var/lib/kijko-backup-secrets
USER 999:999
# CloudNativePG replaces the entrypoint by its own program, which looks for the server in PATH (deploy/kubernetes).
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
ENV LANG=C.UTF-8 KIJKO_SIGNING_KEY_FILE=/var/lib/kijko-keys/signing.keys KIJKO_SEAL_KEY_FILE=/var/lib/kijko-keys/seal.keys \
    KIJKO_STORAGE_DIR=/var/lib/kijko-storage KIJKO_BACKUP_DIR=/var/lib/kijko-backups KIJKO_BACKUP_SECRETS_DIR=/var/lib/kijko-backup-secrets
VOLUME /var/lib/kijko /var/lib/kijko-keys
EXPOSE 5432
# A fast shutdown: open transactions are rolled back, nothing waits for clients to leave.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=5 CMD ["kijko-healthy"]
ENTRYPOINT ["kijko-entrypoint"]
