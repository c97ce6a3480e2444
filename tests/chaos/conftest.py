"""No log, because in these stories activities fail all the time."""

import logging

logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)
