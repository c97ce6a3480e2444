"""Pure decisions about a job as a whole."""
