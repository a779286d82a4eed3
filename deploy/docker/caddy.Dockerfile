# syntax=docker/dockerfile:1
# Caddy with deploy/Caddyfile in it, for Kubernetes; docker compose mounts the file instead. Not root, on ports above 1024.
# Build from the checkout's root: docker build -f deploy/docker/caddy.Dockerfile .

FROM caddy:2.6 AS program
# The image gives its binary the right to open ports below 1024, and such a file does not start where no right can be gained. A
# copy of its bytes has none.
RUN cat /usr/bin/caddy > /usr/bin/caddy-plain && chmod 0755 /usr/bin/caddy-plain

FROM caddy:2.6
COPY --from=program /usr/bin/caddy-plain /usr/bin/caddy
COPY deploy/Caddyfile /etc/caddy/Caddyfile
USER 10001:10001
ENV XDG_CONFIG_HOME=/tmp/config XDG_DATA_HOME=/tmp/data
EXPOSE 54321
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
