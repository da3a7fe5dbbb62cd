"""What collectives send. Pure: nothing is sent here.

Each function gives a `traffic.graph.Graph`; `permutation` gives a `TrafficPlan` of independent flows.
"""

from __future__ import annotations

from traffic.collectives.alltoall import all_to_all, all_to_allv, bruck_all_to_all
from traffic.collectives.halving import (
    doubling_all_gather,
    doubling_all_reduce,
    halving_doubling_all_reduce,
    halving_reduce_scatter,
    hypercube_all_gather,
)
from traffic.collectives.hierarchical import (
    hierarchical_all_reduce,
    hierarchical_all_to_all,
    rail_all_to_all,
    rail_ring_all_reduce,
)
from traffic.collectives.permutations import permutation
from traffic.collectives.ring import ring_all_gather, ring_all_reduce, ring_reduce_scatter
from traffic.collectives.rooted import gather, incast, random_bijection, scatter, send_recv, strided
from traffic.collectives.skew import column_skew, gini, spread_matrix, zipf_matrix, zipf_weights
from traffic.collectives.training import Prefill, cache_transfers, fsdp_step, moe_layer, moe_matrix, pipeline
from traffic.collectives.trees import (
    broadcast_binomial,
    broadcast_chain,
    double_tree_all_reduce,
    reduce_binomial,
    tree_all_reduce,
)

__all__ = [
    "Prefill",
    "all_to_all",
    "all_to_allv",
    "broadcast_binomial",
    "broadcast_chain",
    "bruck_all_to_all",
    "cache_transfers",
    "column_skew",
    "double_tree_all_reduce",
    "doubling_all_gather",
    "doubling_all_reduce",
    "fsdp_step",
    "gather",
    "gini",
    "halving_doubling_all_reduce",
    "halving_reduce_scatter",
    "hierarchical_all_reduce",
    "hierarchical_all_to_all",
    "hypercube_all_gather",
    "incast",
    "moe_layer",
    "moe_matrix",
    "permutation",
    "pipeline",
    "rail_all_to_all",
    "rail_ring_all_reduce",
    "random_bijection",
    "reduce_binomial",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_reduce_scatter",
    "scatter",
    "send_recv",
    "spread_matrix",
    "strided",
    "tree_all_reduce",
    "zipf_matrix",
    "zipf_weights",
]
