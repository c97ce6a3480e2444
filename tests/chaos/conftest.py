"""Stories in which activities fail all the time: without their log."""

import logging

logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)
