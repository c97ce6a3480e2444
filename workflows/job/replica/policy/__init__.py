"""Pure decisions about one replica."""
