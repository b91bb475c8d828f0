# The gateway as a container image, for where no measured image runs: behind it the evidence is that of
# the guest it runs in, and TDX measures no container by itself (docs/threats.md).
#
#   docker build --build-arg PYTHON_IMAGE=python@sha256:<64 hex digits> -t attested .
#
# PYTHON_IMAGE has no default: say which CPython 3.13 on glibc you mean, by digest. Wheels come from
# the index that pip in the build is told to use (a secret or PIP_INDEX_URL), each with its hash.
ARG PYTHON_IMAGE

FROM ${PYTHON_IMAGE} AS build
ARG PYTHON_IMAGE
ARG SOURCE_DATE_EPOCH=1793491200
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY enclave_image/container/ enclave_image/container/
RUN ["python3", "-I", "enclave_image/container/by_digest.py"]
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN ["python3", "-m", "venv", "/build"]
RUN ["/build/bin/python", "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "-r", "requirements/build.txt"]
COPY LICENSE README.md pyproject.toml ./
COPY attestation/ attestation/
COPY gateway/ gateway/
RUN ["/build/bin/python", "enclave_image/container/fill.py", "/filled"]

FROM ${PYTHON_IMAGE} AS base
COPY enclave_image/container/strip.py /strip.py
RUN ["python3", "-I", "/strip.py", "/"]

FROM scratch
COPY --from=base / /
COPY --from=build /filled/ /
ENV LANG=C.UTF-8
WORKDIR /var/lib/attested
USER 65532:65532
EXPOSE 8443
VOLUME ["/var/lib/attested"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/lib/attested/bin/attested"]
CMD ["serve", "--config", "/etc/attested/gateway.toml"]
