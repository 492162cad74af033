# syntax=docker/dockerfile:1
# The daemon alone: `docker build -t yaks .`, `docker run yaks agent`. About 60 MB, no shell, not root.

FROM rust:1.95-bookworm AS build
WORKDIR /yaks
# Dependencies are a layer of their own: it is made anew only when the manifest or the lock file changes.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin \
 && touch src/lib.rs && echo 'fn main() {}' | tee src/main.rs src/bin/oracle.rs src/bin/bench.rs >/dev/null \
 && cargo build --release --locked --bin yaks \
 && rm -r src
COPY migrations migrations
COPY src src
# The files' times are those of the checkout; cargo goes by them.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin yaks && strip target/release/yaks

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /yaks/target/release/yaks /usr/local/bin/yaks
# Metrics and health on 9090: the health check below asks there.
ENV YAKS_OTEL_ENABLED=true
# Kafka, metrics and health, peers.
EXPOSE 9092 9090 9080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/local/bin/yaks", "health"]
ENTRYPOINT ["/usr/local/bin/yaks"]
CMD ["agent"]
