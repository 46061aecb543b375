"""Typical mistakes: rules from a refused token to a message, or None where the rule does not apply."""
