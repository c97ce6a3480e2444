"""What all our programs share, health and reach, and two small programs: the node agent and the codec server."""
