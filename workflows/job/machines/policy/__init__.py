"""Pure decisions about machines."""
