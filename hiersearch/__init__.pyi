from . import data as data
from . import errors as errors
from . import evaluation as evaluation
from . import hierarchy as hierarchy
from . import index as index
from . import losses as losses
from . import metric as metric
from . import networks as networks
from . import partitions as partitions
from . import plots as plots
from . import refinement as refinement
from .hierarchy.build import build_hierarchy as build_hierarchy
from .hierarchy.curve import nearest_cuts_by_regions as nearest_cuts_by_regions
from .hierarchy.curve import trade_off as trade_off
from .hierarchy.cuts import nearest_cut as nearest_cut
from .hierarchy.cuts import nearest_horizontal_cut as nearest_horizontal_cut
from .hierarchy.k_best import nearest_cuts as nearest_cuts
from .hierarchy.matching import Match as Match
from .hierarchy.matching import match as match
from .hierarchy.tree import MergeTree as MergeTree
from .index.index import PartitionIndex as PartitionIndex
from .index.search.results import SearchResult as SearchResult
from .metric import comembership_distance as comembership_distance
from .metric import distance as distance
from .metric import distances as distances
from .metric import jaccard_distance as jaccard_distance
from .metric import pairwise_distances as pairwise_distances
from .partitions import Partition as Partition
from .partitions import SoftOutput as SoftOutput
from .partitions import SoftPartition as SoftPartition
from .refinement.pipeline import refine as refine
from .refinement.refinement import Refinement as Refinement

__version__: str
__all__: list[str]
