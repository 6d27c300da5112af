"""`doctor`: looks for what is wrong, and says what to do. docs/operations.md, "doctor" """
