# The consumer service: `trialstream consume`, configured by TRIALSTREAM_* (docs/operations.md).
FROM python:3.11-slim

# One folder that only root can write, one user that owns nothing.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin trialstream
WORKDIR /opt/trialstream

COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY producer producer
COPY consumer consumer
COPY console console
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[consumer]'

USER trialstream
# Logs appear as they are written.
ENV PYTHONUNBUFFERED=1
CMD ["trialstream", "consume"]
