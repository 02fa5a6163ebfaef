"""Policies replayed over outcomes: what each choice would have given and cost, from what is known of every model."""
