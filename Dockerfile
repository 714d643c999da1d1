# One image with the three programs; compose and the command line choose which one runs.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p novella-compute-agent -p novella-scheduler -p novella-cli

FROM debian:bookworm-slim
# Certificate authorities for brokers behind TLS; the slim base has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/release/compute-agent /src/target/release/scheduler /src/target/release/novella /usr/local/bin/
# The agent keeps its identity below its home. No VOLUME: a copy of it in a second container would be a cloned host.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/novella novella
USER novella
WORKDIR /var/lib/novella
CMD ["novella", "--help"]
