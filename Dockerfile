# natsfer-producer and natsfer-consumer in one image:
#   docker build -t natsfer . && docker run --rm natsfer natsfer-producer --help
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bins -p natsfer-producer -p natsfer-consumer \
    && install -D -t /out target/release/natsfer-producer target/release/natsfer-consumer

FROM debian:bookworm-slim
COPY --from=build /out/ /usr/local/bin/
USER 1000:1000
WORKDIR /data
CMD ["natsfer-consumer", "--help"]
