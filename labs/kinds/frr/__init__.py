"""FRRouting on Linux: forwarding is the kernel's, the control plane FRR's."""
