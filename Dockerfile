# itmkit on the processor. Build the wheel first: make wheel && docker build -t itmkit .
#   mkdir -p data && docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/data:/data" itmkit quickstart -w /data/quickstart
# For a GPU, leave PIP_EXTRA_INDEX_URL out: docker build --build-arg PIP_EXTRA_INDEX_URL= -t itmkit .
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY constraints.txt dist/*.whl /tmp/itmkit/
RUN pip install --no-cache-dir --constraint /tmp/itmkit/constraints.txt /tmp/itmkit/*.whl && rm -r /tmp/itmkit

RUN useradd --uid 1000 --create-home itmkit && install --directory --owner=1000 /data
USER 1000
WORKDIR /data
ENTRYPOINT ["itmkit"]
