"""Independent reference values: nothing in this folder imports tensorprog."""
