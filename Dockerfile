# One static binary, the certificates that metric servers are checked with, and nothing else.
FROM docker.io/library/rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev ca-certificates
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY crds crds
COPY charts/sluice charts/sluice
# The manifest names the integration tests, which are not part of an image.
RUN mkdir -p tests/it && echo 'fn main() {}' > tests/it/main.rs && touch README.md
RUN cargo build --locked --release --bin sluice

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/sluice /sluice
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/sluice"]
