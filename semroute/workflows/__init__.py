"""Operations that a person asks for, for the command line and other faces to call."""
