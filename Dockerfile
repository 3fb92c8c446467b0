# One image for brokers, operator and command line: `fanfare serve`, `node /app/operator/main.ts`, `fanfare …`.
#
#   docker build -t fanfare .                                  installs from the registry that npm is set to
#   docker build -t fanfare --build-arg DEPENDENCIES=copy \
#     --build-arg BASE_IMAGE=localhost/node:24 .               needs no network: takes ./node_modules, after `npm ci` on
#                                                              Linux of the same architecture and libc (lmdb is native)
ARG BASE_IMAGE=docker.io/library/node:24-bookworm-slim
ARG DEPENDENCIES=install

FROM ${BASE_IMAGE} AS sources
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY services/cli/package.json services/cli/
COPY services/node/package.json services/node/

FROM sources AS dependencies-install
RUN npm ci --omit=dev --ignore-scripts

FROM sources AS dependencies-copy
COPY node_modules node_modules
RUN if command -v npm; then npm prune --omit=dev --ignore-scripts --offline; fi

FROM dependencies-${DEPENDENCIES} AS dependencies
# The base image has a node; the ones from npm are for machines without.
RUN rm -rf node_modules/node-linux-* node_modules/node-darwin-* node_modules/.bin/node

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="fanfare" \
      org.opencontainers.image.description="Durable fan-out message broker and its Kubernetes operator" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json fanfare ./
COPY services services
COPY operator operator
ENV NODE_ENV=production
# Numbers, since Kubernetes can't see that a name is not root.
USER 65532:65532
# Brokers: gRPC, metrics and probes. Operator: probes and metrics, KEDA.
EXPOSE 7443 9464 9465 8081 7444
# No shell and no npm between: node is told to end and drains.
ENTRYPOINT ["node", "/app/services/cli/fanfare.js"]
CMD ["serve"]
