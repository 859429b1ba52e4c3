# syntax=docker/dockerfile:1
# Both binaries, each in an image of its own:
#   docker build --target runtime  -t tidewater .
#   docker build --target operator -t tidewater-operator .
FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libssl-dev libsasl2-dev zlib1g-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p tidewater-runtime -p tidewater-operator \
 && cp target/release/tidewater target/release/tidewater-operator /usr/local/bin/

# What the binaries link: OpenSSL, Cyrus SASL with its Kerberos module, zlib; kinit, which the Kafka client runs for a
# ticket. Certificates for TLS, zones for time zones are compiled in.
FROM debian:bookworm-slim AS base
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates krb5-user libssl3 libsasl2-2 libsasl2-modules-gssapi-mit zlib1g \
 && rm -rf /var/lib/apt/lists/*
USER 65532:65532

FROM base AS runtime
COPY --from=build /usr/local/bin/tidewater /usr/local/bin/tidewater
ENTRYPOINT ["tidewater"]

FROM base AS operator
COPY --from=build /usr/local/bin/tidewater-operator /usr/local/bin/tidewater-operator
ENTRYPOINT ["tidewater-operator"]
