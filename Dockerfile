# outboxd with the example plugins and the embedded broker.
#
#   docker build -t outboxd .
#   docker run --init --restart on-failure -v outboxd-data:/data outboxd
#
# Restart policy: outboxd is crash-only. It ends with exit code 70 on purpose when a handler hangs in
# the database's thread; at the next start the message is a suspect and is handled alone. So something
# must start it again: `--restart on-failure` (ends after a clean stop) or `unless-stopped`.
# A stop takes up to 10 s while it drains: leave `docker stop` more than that (`--stop-timeout 30`).
# Your own plugins: mount or copy a folder, then `docker run ... outboxd run /plugins`.
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY outboxd ./outboxd
RUN pip install --no-cache-dir . && rm -r outboxd
COPY plugins ./plugins

# The volume inherits this owner; a bind mount must be writable for uid 10001.
RUN useradd --uid 10001 --no-create-home --home-dir /data outboxd \
    && install -d -o outboxd -g outboxd -m 0700 /data
USER outboxd
VOLUME /data
ENV OUTBOXD_DATA=/data PYTHONUNBUFFERED=1

# The start period covers the replay of a large append-only file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["outboxd", "status", "--check"]

ENTRYPOINT ["outboxd"]
CMD ["run", "plugins"]
