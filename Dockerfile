# The image of `./x image`, for those who have a registry: the same files, from the archive that it writes.
FROM debian:bookworm AS build
WORKDIR /src
COPY . .
# The inner archive is the image's one layer.
RUN ./x image && mkdir /image && tar -xOf target/image.tar --wildcards '*.tar' | tar -x -C /image

FROM scratch
LABEL org.opencontainers.image.title="kube-tcpstates"
LABEL org.opencontainers.image.description="Every TCP state transition of a node, with the pod it belongs to"
LABEL org.opencontainers.image.version="v0.1.0"
LABEL org.opencontainers.image.licenses="Apache-2.0 OR GPL-2.0-only"
COPY --from=build /image /
USER 0:0
ENTRYPOINT ["/kube-tcpstates"]
