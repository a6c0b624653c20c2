# natsfer-producer and natsfer-consumer in one image:
#   docker build -t natsfer . && docker run --rm natsfer natsfer-producer --help
# Smaller, and without the shell that receive --exec needs: --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# No cache mounts: the engine's classic builder knows none.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
RUN cargo build --release --locked --bins -p natsfer-producer -p natsfer-consumer \
    && mkdir /out && cp target/release/natsfer-producer target/release/natsfer-consumer /out/

# Nothing is run here: the base needs no shell, and no package but the authorities that tls:// trusts.
FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="natsfer" \
      org.opencontainers.image.description="Move files over NATS JetStream: resumable, verified, to any number of receivers" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
USER 1000:1000
WORKDIR /
CMD ["natsfer-consumer", "--help"]
