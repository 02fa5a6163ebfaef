"""Operations for the command line and other interfaces."""
