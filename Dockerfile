# One image with all three programs. The compose file or the command line chooses which one runs.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p novella-compute-agent -p novella-scheduler -p novella-cli

FROM debian:bookworm-slim
# Certificate authorities for brokers with TLS. The slim base image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/compute-agent /src/target/release/scheduler /src/target/release/novella /usr/local/bin/
# The agent keeps its identity in its home directory. There is no VOLUME, because a copy of the identity in a second
# container would be a cloned host.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/novella novella
USER novella
WORKDIR /var/lib/novella
CMD ["novella", "--help"]
