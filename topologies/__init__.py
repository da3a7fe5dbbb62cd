"""The design half of railbed: fabrics as frozen values, and what routing should make of them.

Pure: nothing here runs a command, opens a socket, reads a clock or touches a namespace.
"""
