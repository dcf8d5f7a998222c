# The consumer service: `trialstream consume`, configured by TRIALSTREAM_* (docs/operations.md).
FROM python:3.11-slim

# The service runs as a user without a home folder, and only root can write to the folder of the code.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin trialstream
WORKDIR /opt/trialstream

COPY pyproject.toml constraints-image.txt README.md LICENSE ./
COPY schemas schemas
COPY producer producer
COPY consumer consumer
COPY console console
# Without the page of the dashboard, which this service does not serve.
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        -r constraints-image.txt \
    && HATCH_BUILD_NO_HOOKS=true \
       pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && pip check

USER trialstream
# Logs are not buffered.
ENV PYTHONUNBUFFERED=1
CMD ["trialstream", "consume"]
