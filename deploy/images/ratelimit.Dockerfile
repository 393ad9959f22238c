# docker build -f deploy/images/ratelimit.Dockerfile -t tollgate/ratelimit .
FROM docker.io/library/rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends clang cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package ratelimit && cp target/release/ratelimit /ratelimit

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /ratelimit /usr/local/bin/ratelimit
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/ratelimit"]
