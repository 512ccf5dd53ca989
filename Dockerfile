# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The mounts keep the registry and all compiled dependencies between builds; they are no part of a
# layer, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin task-tracker && cp target/release/task-tracker /usr/local/bin/

# Not distroless: the health check below wants a shell. TLS roots are in the binary.
FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home tracker && install -d -o tracker -g tracker /data
COPY --from=build /usr/local/bin/task-tracker /usr/local/bin/
USER tracker
ENV TASK_TRACKER_HOST=0.0.0.0 \
    TASK_TRACKER_PORT=3002 \
    TASK_TRACKER_DATA_DIR=/data
VOLUME /data
EXPOSE 3002
# Alive, not ready: what reads this may restart the container, and no restart brings a database back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/$TASK_TRACKER_PORT && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["task-tracker"]
CMD ["serve"]
