# syntax=docker/dockerfile:1
# One job: `supabase db push` as the owner role postgres, then the end. psql is here to refuse migrations that were edited.
# Build from the checkout's root: docker build -f deploy/docker/migrate.Dockerfile .

FROM node:20-bookworm-slim
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends ca-certificates postgresql-client-15 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/kijko
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY scripts/ui.sh scripts/config.sh scripts/postgres.sh scripts/cluster.sh scripts/stack.sh scripts/upgrade.sh scripts/mail.sh scripts/
COPY supabase/ supabase/
COPY --chmod=0755 deploy/docker/migrate-entrypoint.sh /usr/local/bin/kijko-entrypoint
RUN install -d -o 1000 -g 1000 -m 0700 /var/lib/kijko
USER 1000:1000
ENV KIJKO_HOME=/var/lib/kijko LANG=C.UTF-8
ENTRYPOINT ["kijko-entrypoint"]
